package survey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
)

// Survey collects the rows of -status: one for every node that -a names and for every
// member of their clusters. Each node is asked itself if its address is known.
type Survey struct {
	// Rows are those of members first, in the order of their ids in each cluster.
	Rows     []Row
	client   *nodes.Client
	named    []Row // the nodes of -a that no member has been matched with
	clusters []electorate
}

// electorate counts the voting members of one cluster, and those alive.
type electorate struct{ voters, live int }

// Take asks all nodes that client names, and the members of their clusters. An error means that the members
// of a cluster could not be listed: the rows are right, but some may be missing.
func Take(ctx context.Context, client *nodes.Client) (*Survey, error) {
	v := &Survey{client: client}
	v.named = nodes.Each(v.client, v.client.Addrs, func(one *nodes.Client, addr string) Row { return Ask(ctx, one, addr) })
	var unknown error
	for _, c := range v.answered() {
		list, err := v.members(ctx, c.addrs)
		switch {
		case err == nil:
			v.addCluster(ctx, c.electors, list)
		case c.masters || !nodes.HasNoMembers(err):
			unknown = fmt.Errorf("the members of the cluster are not known: %w", err)
		}
	}
	slices.SortStableFunc(v.named, func(a, b Row) int { return cmp.Compare(a.order(), b.order()) })
	v.Rows = append(v.Rows, v.named...)
	return v, unknown
}

// electors identify the cluster, possibly a registry's, whose members are counted for a
// majority. A standalone node has no cluster id.
type electors struct {
	cluster  string
	registry bool
}

// role is the role of all members.
func (e electors) role() string {
	if e.registry {
		return roleDiscovery
	}
	return "master"
}

// respondents are the addresses of -a at which nodes of one cluster answered.
type respondents struct {
	electors
	addrs   []string
	masters bool // one of them is a master, which has members, itself at least
}

// answered groups the nodes that answered by their cluster. A leader comes first, since
// it knows of changes before others do.
func (v *Survey) answered() []respondents {
	rows := slices.Clone(v.named)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(b.leads(), a.leads()) })
	var groups []respondents
	for _, r := range rows {
		if !r.mayBeMember() {
			continue
		}
		of := electors{r.Cluster, r.Role == roleDiscovery}
		i := slices.IndexFunc(groups, func(g respondents) bool { return g.electors == of })
		if i < 0 {
			i, groups = len(groups), append(groups, respondents{electors: of})
		}
		groups[i].addrs = append(groups[i].addrs, r.Address)
		groups[i].masters = groups[i].masters || r.Role == "master"
	}
	return groups
}

// members asks one address after the other for the members of their cluster. The first
// that answers decides, also whether there is a cluster.
func (v *Survey) members(ctx context.Context, addrs []string) (list *serverpb.ListNodesResponse, err error) {
	for _, addr := range addrs {
		one := v.client.To(addr)
		list, err = one.ListNodes(ctx)
		one.Close()
		if err == nil || nodes.HasNoMembers(err) {
			break
		}
	}
	return list, err
}

// addCluster adds a row for each member of a cluster.
func (v *Survey) addCluster(ctx context.Context, of electors, list *serverpb.ListNodesResponse) {
	members := nodes.SortedMembers(list)
	rows := make([]*Row, len(members))
	for i, m := range members {
		rows[i] = v.takeNamed(ctx, of, m)
	}
	v.askMembers(ctx, of, members, rows)
	var count electorate
	for i, m := range members {
		if rows[i] == nil {
			rows[i] = v.asSeen(m)
		}
		rows[i].describe(of, m)
		v.Rows = append(v.Rows, *rows[i])
		if m.GetNonVoting() {
			continue
		}
		count.voters++
		if rows[i].Health == Alive {
			count.live++
		}
	}
	v.clusters = append(v.clusters, count)
}

// takeNamed removes the row of a member from those of the nodes of -a and returns it:
// the row with its id, or one without an id at its address. It returns nil if there is
// none.
func (v *Survey) takeNamed(ctx context.Context, of electors, m *modelspb.NodeInfo) *Row {
	var row *Row
	v.named = slices.DeleteFunc(v.named, func(r Row) bool {
		if !r.isMember(of, m) {
			return false
		}
		if row == nil {
			row = &r
			return true
		}
		return r.Cluster != "" // the same node again, under another name
	})
	if row != nil || m.GetAddress() == "" {
		return row
	}
	return v.takeSilent(func(r Row) bool { return sameAddress(ctx, r.Address, m.GetAddress()) })
}

// takeSilent removes the first node of -a without an id that matches, and returns it;
// nil if there is none.
func (v *Survey) takeSilent(matches func(Row) bool) *Row {
	i := slices.IndexFunc(v.named, func(r Row) bool { return r.ID == "" && matches(r) })
	if i < 0 {
		return nil
	}
	row := v.named[i]
	v.named = slices.Delete(v.named, i, i+1)
	return &row
}

// askMembers asks the members that -a does not name and whose addresses are known, and
// sets their rows.
func (v *Survey) askMembers(ctx context.Context, of electors, members []*modelspb.NodeInfo, rows []*Row) {
	var addrs []string
	var at []int
	for i, m := range members {
		if rows[i] == nil && m.GetAddress() != "" && v.client.MayAsk(m.GetAddress()) == nil {
			addrs, at = append(addrs, m.GetAddress()), append(at, i)
		}
	}
	answers := nodes.Each(v.client, addrs, func(one *nodes.Client, addr string) Row { return Ask(ctx, one, addr) })
	for k, r := range answers {
		if i := at[k]; r.ID != "" && !r.isMember(of, members[i]) {
			rows[i] = &Row{Address: r.Address, Health: unreachable, Reason: "its address is that of node " + r.ID + " " + r.Name}
		} else {
			rows[i] = &r
		}
	}
}

// asSeen returns the row of a member that cannot be asked, as its cluster sees it.
//
// A node of -a that does not answer may be the member that is offline and has no known
// address: its row is then used for the member, so that a dead node does not count
// twice.
func (v *Survey) asSeen(m *modelspb.NodeInfo) *Row {
	row := &Row{Address: cmp.Or(m.GetAddress(), m.GetNodeUrl()), Health: Alive}
	switch m.GetStatus() {
	case modelspb.NodeInfo_OFFLINE, modelspb.NodeInfo_UNKNOWN:
		row.Health = m.GetStatus().String()
		if m.GetAddress() != "" {
			return row
		}
		if silent := v.takeSilent(func(r Row) bool { return r.Health == unreachable }); silent != nil {
			return silent
		}
		return row
	case modelspb.NodeInfo_LEADER:
		row.VBuckets = []VBucket{{IsLeader: true}}
	}
	row.Reason = "as its cluster sees it: its address is not known"
	if m.GetAddress() != "" {
		row.Reason = "as its cluster sees it: the token would go there unencrypted"
	}
	return row
}

// describe adds what the cluster knows about a member.
func (r *Row) describe(of electors, m *modelspb.NodeInfo) {
	r.ID = strconv.FormatUint(m.GetNodeId(), 10)
	r.URL, r.NonVoting = m.GetNodeUrl(), m.GetNonVoting()
	r.Name, r.Role = cmp.Or(r.Name, m.GetNodeName()), cmp.Or(r.Role, of.role())
}

// roleDiscovery is the role of a registry's nodes, which have members as masters do.
const roleDiscovery = "discovery"

// mayBeMember reports whether a node answered, and with a role that has members.
func (r *Row) mayBeMember() bool { return r.ID != "" && r.Role != "slave" }

// isMember reports whether the node that answered is member m. A node that does not name
// its cluster is identified by its id and role alone. Nodes that stand alone all have the same id,
// and a master and the one that a promotion has replaced are of the same cluster.
func (r *Row) isMember(of electors, m *modelspb.NodeInfo) bool {
	if r.Role == "none" && r.self != "" && m.GetAddress() != "" && r.self != m.GetAddress() {
		return false
	}
	return r.mayBeMember() && of.registry == (r.Role == roleDiscovery) && r.ID == strconv.FormatUint(m.GetNodeId(), 10) &&
		(r.Cluster == of.cluster || r.Cluster == "" || of.cluster == "")
}

func (r *Row) leads() int {
	n := 0
	for _, v := range r.VBuckets {
		if v.IsLeader {
			n++
		}
	}
	return n
}

// order sorts nodes by their ids, and those without one last.
func (r *Row) order() uint64 {
	if id, err := strconv.ParseUint(r.ID, 10, 64); err == nil {
		return id
	}
	return math.MaxUint64
}

// Majority returns an error if too few nodes are alive. Every cluster needs a majority
// of its voting members. If no cluster has several members, a majority of all rows,
// standalone nodes and those that do not answer, must be alive.
func (v *Survey) Majority() error {
	several := false
	for _, c := range v.clusters {
		if c.live*2 <= c.voters {
			return fmt.Errorf("no majority: of %d voting members %d are alive", c.voters, c.live)
		}
		several = several || c.voters > 1
	}
	voters := slices.DeleteFunc(slices.Clone(v.Rows), func(r Row) bool { return r.NonVoting })
	if !several && countAlive(voters)*2 <= len(voters) {
		return errors.New("no majority of the nodes is alive")
	}
	return nil
}

func countAlive(rows []Row) int {
	n := 0
	for _, r := range rows {
		if r.Health == Alive {
			n++
		}
	}
	return n
}
