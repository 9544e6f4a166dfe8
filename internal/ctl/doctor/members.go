package doctor

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func memberChecks() []Check {
	return []Check{
		{ID: "unreachable", Title: "every node answers", find: unreachable,
			Why: "a node that does not answer serves nothing, and the next one that fails may take the majority with it"},
		{ID: "majority", Title: "a majority of each cluster is alive", find: majority,
			Why: "without a majority writes and linearizable reads fail"},
		{ID: "spare", Title: "each cluster survives the loss of one more voter", find: spare,
			Why: "with one more node down there is no majority, and writes fail"},
		{ID: "even-voters", Title: "each cluster has an odd number of voters", find: evenVoters,
			Why: "an even number needs a larger majority and survives no more losses than one voter less"},
		{ID: "few-voters", Title: "masters are three or more", find: fewVoters,
			Why: "two masters stop when either of them stops: they are less available than one"},
		{ID: "one-zone", Title: "voters are spread over data centres or zones", find: oneZone,
			Why: "if that zone is lost, so are the majority and the newest writes"},
		{ID: "one-host", Title: "voters are on hosts of their own", find: oneHost, Needs: Report,
			Why: "one failure of the host takes all of them"},
		{ID: "same-name", Title: "every node has a name of its own", find: sameName,
			Why: "logs, metrics and the console tell nodes apart by their names"},
		{ID: "leaders", Title: "every vBucket has one leader", find: leaderless,
			Why: "writes of a vBucket without a leader fail"},
		{ID: "leader-balance", Title: "leaders are spread over the masters", find: unbalanced,
			Why: "the node with most leaders does most of the work and limits what the cluster can do"},
		{ID: "leader-changes", Title: "leaders stay", find: restless, Needs: Metrics,
			Why: "each change of a leader holds writes up for an election; many come of a slow network, a slow disk or too short a timing"},
		{ID: "versions", Title: "all nodes run the same version", find: versions,
			Why: "mixed versions are for the time of an upgrade: features of the new one wait for the last node"},
		{ID: "upgrade", Title: "no upgrade is left unfinished", find: unfinishedUpgrade,
			Why: "what the new release adds is not used until the upgrade is finished; until then nodes can be downgraded"},
		{ID: "timing", Title: "members run with the timing that the cluster has recorded", find: timings,
			Why: "members with another timing are refused a vote or hold leases too long: such a change must be completed"},
	}
}

func unreachable(p *patient) []Finding {
	return each(p.Nodes, func(n *observe.Node) *Finding {
		if n.Status != nil {
			return nil
		}
		mend := "look at its process and the end of its log, and start it again with its folder"
		if n.Member != nil {
			mend += fmt.Sprintf("; if it is gone for good: dkvctl -removeNode %s", n.Member.GetNodeUrl())
		}
		why := n.Err.Error()
		var silent *nodes.UnreachableError
		if errors.As(n.Err, &silent) {
			why = silent.Why() // the address is the finding's
		}
		return &Finding{Severity: Problem, What: "it does not answer: " + why, Mend: mend}
	})
}

// electorate are the voters of one cluster.
type electorate struct{ all, live []*observe.Node }

// electorates returns the voters of each cluster, in the order of their ids.
func (p *patient) electorates() []electorate {
	byCluster := make(map[string]*electorate)
	for _, n := range p.Nodes {
		if !n.Voter() {
			continue
		}
		of := byCluster[n.MemberOf]
		if of == nil {
			of = new(electorate)
			byCluster[n.MemberOf] = of
		}
		of.all = append(of.all, n)
		if n.Status != nil {
			of.live = append(of.live, n)
		}
	}
	var out []electorate
	for _, id := range slices.Sorted(maps.Keys(byCluster)) {
		out = append(out, *byCluster[id])
	}
	return out
}

// of names the cluster whose voters they are.
func (e *electorate) of() string {
	if e.all[0].Role() == observe.Discovery {
		return "the registry"
	}
	return "the cluster"
}

func (e *electorate) majority() int { return len(e.all)/2 + 1 }

// names lists the nodes that do not answer.
func (e *electorate) missing() string {
	var out []string
	for _, n := range e.all {
		if n.Status == nil {
			out = append(out, n.Name())
		}
	}
	return strings.Join(out, ", ")
}

func majority(p *patient) []Finding {
	var out []Finding
	for _, e := range p.electorates() {
		if len(e.live) < e.majority() {
			out = append(out, Finding{Severity: Problem,
				What: fmt.Sprintf("%d of %d voters of %s are alive, %d are needed; %s are missing", len(e.live), len(e.all), e.of(), e.majority(), e.missing()),
				Mend: "start the missing nodes again with their folders; docs/RUNBOOKS.md, \"Lost majority\", if they are gone for good"})
		}
	}
	return out
}

func spare(p *patient) []Finding {
	var out []Finding
	for _, e := range p.electorates() {
		if len(e.all) > 2 && len(e.live) == e.majority() {
			out = append(out, Finding{Severity: Problem,
				What: fmt.Sprintf("%d of %d voters of %s are alive, which is the bare majority; %s missing", len(e.live), len(e.all), e.of(), isAre(e.missing())),
				Mend: "start it again; or replace it: dkvctl -removeNode URL, then start a node with --nexus-join and dkvctl -addNode URL"})
		}
	}
	return out
}

// isAre is a list with its verb.
func isAre(list string) string {
	if strings.Contains(list, ", ") {
		return list + " are"
	}
	return list + " is"
}

func evenVoters(p *patient) []Finding {
	var out []Finding
	for _, e := range p.electorates() {
		if n := len(e.all); n > 2 && n%2 == 0 {
			out = append(out, Finding{Severity: Warning,
				What: fmt.Sprintf("%s has %d voters and survives the loss of %d, as it would with %d", e.of(), n, (n-1)/2, n-1),
				Mend: "add a voter (dkvctl -addNode URL) or remove one (dkvctl -removeNode URL)"})
		}
	}
	return out
}

func fewVoters(p *patient) []Finding {
	var out []Finding
	for _, e := range p.electorates() {
		if len(e.all) == 2 && e.all[0].Role() == observe.Master {
			out = append(out, Finding{Severity: Warning, What: "the cluster has two voters, and needs both for every write",
				Mend: "start a third master with --nexus-join and add it: dkvctl -addNode URL"})
		}
	}
	return out
}

func oneZone(p *patient) []Finding {
	var out []Finding
	for _, e := range p.electorates() {
		zones := make(map[string]bool)
		for _, n := range e.all {
			zones[n.Member.GetDcID()] = true
		}
		if delete(zones, ""); len(e.all) > 2 && len(zones) == 1 {
			out = append(out, Finding{Severity: Warning,
				What: fmt.Sprintf("all %d voters of %s are in %q (dc-id)", len(e.all), e.of(), slices.Collect(maps.Keys(zones))[0]),
				Mend: "run the voters in different zones and name these with dc-id; or keep a slave elsewhere: dkvsrv --role slave --dc-id OTHER"})
		}
	}
	return out
}

func oneHost(p *patient) []Finding {
	var out []Finding
	for _, e := range p.electorates() {
		byHost := make(map[string][]string)
		for _, n := range e.live {
			if n.Report != nil && n.Report.Host.Name != "" {
				byHost[n.Report.Host.Name] = append(byHost[n.Report.Host.Name], n.Name())
			}
		}
		for _, host := range slices.Sorted(maps.Keys(byHost)) {
			if names := byHost[host]; len(names) > 1 {
				out = append(out, Finding{Severity: Warning, What: fmt.Sprintf("%d voters of %s run on the host %s: %s", len(names), e.of(), host, strings.Join(names, ", ")),
					Mend: "move all but one: start a node elsewhere with --nexus-join, dkvctl -addNode URL, then dkvctl -removeNode URL of the old one"})
			}
		}
	}
	return out
}

func sameName(p *patient) []Finding {
	byName := make(map[string][]string)
	for _, n := range p.Nodes {
		if name := n.Status.GetNodeName(); name != "" {
			byName[name] = append(byName[name], n.Address)
		}
	}
	var out []Finding
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if at := byName[name]; len(at) > 1 {
			out = append(out, Finding{Severity: Warning, What: fmt.Sprintf("%d nodes are named %s: %s", len(at), name, strings.Join(at, ", ")),
				Mend: "give each a node-name of its own and restart them one after the other; with a root-folder and no db-folder, the folder is named after the node: rename it too"})
		}
	}
	return out
}

func leaderless(p *patient) []Finding {
	leaders := make(map[string][]string)
	masters := slices.Concat(p.in(observe.Master), p.in(observe.Standalone))
	for _, n := range masters {
		for _, v := range n.Status.GetVBuckets() {
			id := v.GetVBucket()
			leaders[id] = append(leaders[id], "")[:len(leaders[id])]
			if leads(n, v) {
				leaders[id] = append(leaders[id], n.Name())
			}
		}
	}
	var none []string
	for _, id := range slices.Sorted(maps.Keys(leaders)) {
		if len(leaders[id]) == 0 {
			none = append(none, id)
		}
	}
	if len(none) == 0 {
		return nil
	}
	return []Finding{{Severity: Problem, What: fmt.Sprintf("no node that answers leads vBucket %s", list(none)),
		Mend: "an election takes a second or two: dkvctl -status again; if it stays, a majority does not reach each other (docs/RUNBOOKS.md, \"Lost majority\")"}}
}

// list names some of many.
func list(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}

func unbalanced(p *patient) []Finding {
	masters := p.in(observe.Master)
	leads := make(map[*observe.Node]int)
	total := 0
	var least, most *observe.Node
	for _, n := range masters {
		for _, v := range n.Status.GetVBuckets() {
			if v.GetIsLeader() {
				leads[n]++
				total++
			}
		}
	}
	for _, n := range masters {
		if !n.Voter() {
			continue
		}
		if least == nil || leads[n] < leads[least] {
			least = n
		}
		if most == nil || leads[n] > leads[most] {
			most = n
		}
	}
	if most == nil || leads[most]-leads[least] <= max(1, total/len(masters)/4) {
		return nil
	}
	return []Finding{{Severity: Warning, Node: most.Name(),
		What: fmt.Sprintf("it leads %d of %d vBuckets, and %s leads %d", leads[most], total, least.Name(), leads[least]),
		Mend: fmt.Sprintf("dkvctl -a %s -transferLeader %s -vBucket NAME moves one; leaders spread by themselves when nodes come back", most.Address, least.Member.GetNodeUrl())}}
}

// restlessHour is how many changes of leaders an hour, and vBucket, are too many.
const restlessHour = 2

func restless(p *patient) []Finding {
	return each(p.in(observe.Master), func(n *observe.Node) *Finding {
		changes, hours := n.Metrics.Sum("dkv_raft_leader_changes_total"), float64(n.Status.GetUptime())/3600
		vBuckets := max(len(n.Status.GetVBuckets()), 1)
		// The elections of a start are no sign of anything.
		if hours < 1 || changes/float64(vBuckets) <= 2+restlessHour*hours {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("it has seen %.0f changes of leaders in %.1f hours", changes, hours),
			Mend: "compare disk-sync and clock here and the network between the nodes; members far apart run with --raft-profile wan (dkvctl -setTiming wan)"}
	})
}

func versions(p *patient) []Finding {
	byVersion := make(map[string][]string)
	for _, n := range p.live() {
		byVersion[n.Status.GetVersion()] = append(byVersion[n.Status.GetVersion()], n.Name())
	}
	if len(byVersion) < 2 {
		return nil
	}
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(byVersion)) {
		parts = append(parts, v+" on "+list(byVersion[v]))
	}
	return []Finding{{Severity: Warning, What: "nodes run different versions: " + strings.Join(parts, "; "),
		Mend: "finish the upgrade, one node after the other, or take it back: install the same dkvsrv everywhere and restart each node"}}
}

// unfinishedUpgrade is about clusters whose nodes all understand a newer version; while some
// do not, the check of versions has found them.
func unfinishedUpgrade(p *patient) []Finding {
	var findings []Finding
	for _, e := range p.electorates() {
		used, understood := uint32(math.MaxUint32), uint32(math.MaxUint32)
		for _, n := range e.live {
			used, understood = min(used, n.Status.GetClusterVersion()), min(understood, n.Status.GetUnderstands())
		}
		if len(e.live) < len(e.all) || used == 0 || used >= understood {
			continue
		}
		findings = append(findings, Finding{Severity: Warning,
			What: fmt.Sprintf("the cluster of %s uses version %d, and its nodes understand %d", e.live[0].Name(), used, understood),
			Mend: "when you are sure that no node has to be downgraded: dkvctl -upgrade finish"})
	}
	return findings
}

func timings(p *patient) []Finding {
	return each(p.in(observe.Master), func(n *observe.Node) *Finding {
		s := n.Status
		switch {
		case s.GetNextTiming() != "":
			return &Finding{Severity: Warning, What: fmt.Sprintf("the timing is being changed to %s, and is not yet on all members", s.GetNextTiming()),
				Mend: "restart the members that still run with the old one (dkvctl -status -v shows them); dkvctl -setTiming with the current one cancels the change"}
		case s.GetClusterTiming() != "" && s.GetTiming() != s.GetClusterTiming():
			return &Finding{Severity: Problem, What: fmt.Sprintf("it runs with the timing %s, the cluster with %s", s.GetTiming(), s.GetClusterTiming()),
				Mend: "set raft-profile and the raft keys as on the other members, and restart it; or first allow the change: dkvctl -setTiming " + s.GetTiming()}
		}
		return nil
	})
}

// host is the host of an address.
func host(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return h
}
