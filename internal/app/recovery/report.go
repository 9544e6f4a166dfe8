package recovery

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/era"
)

// lines are a plan for people.
func (p *plan) lines(dir, database string) []string {
	m := &p.Member
	cluster := fmt.Sprintf("%016x", m.Deployment)
	if m.ClusterName != "" {
		cluster += " (" + m.ClusterName + ")"
	}
	out := []string{fmt.Sprintf("db-folder %s is that of member %d of the cluster %s, at %s; its node was started %s.",
		dir, m.Replica, cluster, m.URL, count(m.Starts, "time"))}
	for i := range p.VBuckets {
		out = append(out, p.VBuckets[i].lines(database, m.Replica)...)
	}
	out = append(out, "", "What would be lost:")
	out = append(out, p.losses()...)
	out = append(out, "", "What would be done:")
	out = append(out, p.deeds(dir)...)
	if len(p.Doubts) > 0 {
		out = append(out, "", "Look at this first:")
	}
	for _, d := range p.Doubts {
		out = append(out, "  - "+d)
	}
	return out
}

func (v *vBucket) lines(database string, self uint64) []string {
	owner := fmt.Sprintf("member %d", v.Epoch.Owner)
	switch {
	case v.Epoch.ID == 0:
		owner = "no member"
	case v.Epoch.Owner == self:
		owner = "this member"
	}
	changed := "no change is retained"
	if v.Changed != 0 {
		changed = "the newest change is of " + v.Changed.Time().UTC().Format("2006-01-02 15:04:05.000 MST")
	}
	out := []string{
		fmt.Sprintf("vBucket %s of database %s", v.Name, database),
		fmt.Sprintf("  history    %s, era %d; log format %d", v.History, era.Of(v.History), v.Format),
		fmt.Sprintf("  owner      %s in term %d, as the state has it", owner, v.Epoch.Term),
		fmt.Sprintf("  state      applied up to index %d; %s; %s", v.Applied, changed, count(v.Requests, "remembered request")),
		fmt.Sprintf("  Raft log   entries %d to %d, the last one of term %d; known to be committed up to index %d", v.First, v.Last, v.Term, v.Sure),
	}
	if v.Ahead > 0 {
		out = append(out, fmt.Sprintf("  committed  %s that the state does not have yet: kept", count(uint64(v.Ahead), "command")))
	}
	out = append(out, fmt.Sprintf("  behind     %s that may or may not have been acknowledged: kept", count(uint64(v.Kept), "command")))
	if v.Dropped > 0 {
		out = append(out, fmt.Sprintf("  dropped    %s at the end of the log: %s", count(uint64(v.Dropped), "command"), v.Why))
	}
	return append(out, "  members    "+strings.Join(v.members(self), ", "))
}

// members are those that the log names.
func (v *vBucket) members(self uint64) (out []string) {
	for _, id := range slices.Sorted(maps.Keys(v.Members.Voters)) {
		out = append(out, v.member(id, v.Members.Voters[id], self))
	}
	for _, id := range slices.Sorted(maps.Keys(v.Members.Others)) {
		out = append(out, v.member(id, v.Members.Others[id], self)+" without a vote")
	}
	return out
}

func (v *vBucket) member(id uint64, address string, self uint64) string {
	text := fmt.Sprintf("%d %s http://%s", id, v.Names[id], address)
	if id == self {
		text += " (this one)"
	}
	return text
}

func (p *plan) losses() []string {
	out := []string{
		"  - What other members have acknowledged and this one has not got. How much that is cannot be seen here: look at the other folders that are left with",
		"    this command as well, and recover the one whose Raft log ends with the latest term and, of those, with the greatest entry.",
	}
	for i := range p.VBuckets {
		if v := &p.VBuckets[i]; v.Dropped > 0 {
			out = append(out, fmt.Sprintf("  - %s of vBucket %s, which the log has and this command cannot apply.", count(uint64(v.Dropped), "command"), v.Name))
		}
	}
	return append(out,
		"  - A slave that has more than what is known to be committed here: its copy is set aside, and it starts over. The others go on. If a slave's index",
		"    (dkvctl -status) is far above, promote that instead (dkvctl -promote -force).",
		"  - A minIndex that a client holds above what is known to be committed here: reads with it fail (Aborted), also of writes that are kept.")
}

func (p *plan) deeds(dir string) []string {
	out := []string{
		fmt.Sprintf("  - The node becomes the only master of era %d, in a new cluster; add others with dkvctl -addNode, each with an empty db-folder.", p.Era),
		"  - Remembered requests stay: one that is repeated is not applied again. A pause, standbys, seals and the list of slaves end.",
		fmt.Sprintf("  - Members of the former cluster that come back are told, and yield (%s).", told(p.Masters)),
		fmt.Sprintf("  - What is there now, with its Raft log, is kept in %s/aside-before-era-%d until dkvctl -dropAside.", dir, p.Era),
	}
	if p.Registered {
		out = append(out, "  - The database has a record in the registry: make sure that it names no later era (dkvctl -clusterInfo), and run dkvctl -claim at the node when it serves.")
	}
	return out
}

func told(masters []string) string {
	if len(masters) == 0 {
		return "their addresses are not known here"
	}
	return strings.Join(masters, ", ")
}

// count is a number of things.
func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// again is the command line of the second call.
func again(token string, typed []string) string {
	out := []string{"dkvsrv recover --confirm " + token}
	for _, t := range typed {
		if t == "" || strings.ContainsAny(t, " \t\n\"'\\$`*?[](){}<>|&;~#!") {
			t = "'" + strings.ReplaceAll(t, "'", `'\''`) + "'"
		}
		out = append(out, t)
	}
	return strings.Join(out, " ")
}
