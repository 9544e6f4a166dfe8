package ctl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
)

// errNoMajority is the result of -status where too few nodes are alive.
var errNoMajority = errors.New("no majority of the nodes is alive")

const alive = "ALIVE"

// nodeRow is what -status tells of one node.
type nodeRow struct {
	ID       string       `json:"id"`
	Name     string       `json:"name,omitempty"`
	Address  string       `json:"address"`
	Role     string       `json:"role"`
	Health   string       `json:"health"` // ALIVE, or what else
	Version  string       `json:"version,omitempty"`
	VBuckets []vBucketRow `json:"vBuckets,omitempty"`
	Reason   string       `json:"reason,omitempty"` // why it is not ALIVE
}

type vBucketRow struct {
	Name         string `json:"vBucket"`
	State        string `json:"state"`
	IsLeader     bool   `json:"isLeader"`
	Leader       string `json:"leader"`
	Term         uint64 `json:"term"`
	CommitIndex  uint64 `json:"commitIndex"`
	AppliedIndex uint64 `json:"appliedIndex"`
	LagChanges   uint64 `json:"lagChanges"`
	LagMillis    uint64 `json:"lagMillis"`
	WritesPaused bool   `json:"writesPaused"`
}

// runStatus asks every address at once, and one that answers for the members
// that no address names.
func runStatus(ctx context.Context, s *session, _ []string) error {
	rows := eachAddress(s, func(one *session, addr string) nodeRow { return one.nodeStatus(ctx, addr) })
	if list := s.otherMembers(ctx, rows); list != nil {
		rows = append(rows, otherRows(rows, list)...)
	}
	live := 0
	for _, r := range rows {
		if r.Health == alive {
			live++
		}
	}
	if err := s.printStatus(rows, live); err != nil {
		return err
	}
	if live*2 <= len(rows) {
		return errNoMajority
	}
	return nil
}

// eachAddress runs ask for every address at the same time, each through a
// session that knows only that address, and returns the answers in order.
func eachAddress[T any](s *session, ask func(one *session, addr string) T) []T {
	answers := make([]T, len(s.addrs))
	var group sync.WaitGroup
	for i, addr := range s.addrs {
		group.Go(func() {
			o := *s.options
			o.addrs = []string{addr}
			one := &session{options: &o, out: s.out, stdin: s.stdin, stderr: s.stderr, dial: s.dial,
				conns: make(map[string]*grpc.ClientConn)}
			defer one.close()
			answers[i] = ask(one, addr)
		})
	}
	group.Wait()
	return answers
}

func (s *session) getNodeStatus(ctx context.Context) (*serverpb.NodeStatusResponse, error) {
	var res *serverpb.NodeStatusResponse
	err := s.call(ctx, reads, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		res, err = serverpb.NewDKVNodeClient(conn).GetNodeStatus(ctx, &emptypb.Empty{})
		return err
	})
	return res, err
}

func (s *session) nodeStatus(ctx context.Context, addr string) nodeRow {
	res, err := s.getNodeStatus(ctx)
	var re *requestError
	switch {
	case err == nil:
		return rowOf(addr, res)
	case errors.As(err, &re) && re.code == codes.Unimplemented:
		return nodeRow{Address: addr, Health: alive, Reason: "it answers, but tells no status"}
	default:
		return nodeRow{Address: addr, Health: "UNREACHABLE", Reason: oneLine(err.Error())}
	}
}

func rowOf(addr string, res *serverpb.NodeStatusResponse) nodeRow {
	row := nodeRow{ID: res.GetNodeId(), Name: res.GetNodeName(), Address: addr, Role: res.GetRole(),
		Health: alive, Version: res.GetVersion()}
	for _, v := range res.GetVBuckets() {
		row.VBuckets = append(row.VBuckets, vBucketRow{Name: v.GetVBucket(), State: v.GetState(), IsLeader: v.GetIsLeader(),
			Leader: v.GetLeader(), Term: v.GetTerm(), CommitIndex: v.GetCommitIndex(), AppliedIndex: v.GetAppliedIndex(),
			LagChanges: v.GetLagChanges(), LagMillis: v.GetLagMillis(), WritesPaused: v.GetWritesPaused()})
		if v.GetState() != "serving" && row.Health == alive {
			row.Health, row.Reason = strings.ToUpper(orDash(v.GetState())), v.GetReason()
		}
	}
	return row
}

// otherMembers asks the nodes that answered who else belongs to the cluster;
// nil where none knows, as on a standalone node.
func (s *session) otherMembers(ctx context.Context, rows []nodeRow) *serverpb.ListNodesResponse {
	o := *s.options
	o.addrs = nil
	for _, r := range rows {
		if r.ID != "" {
			o.addrs = append(o.addrs, r.Address)
		}
	}
	if len(o.addrs) == 0 {
		return nil
	}
	one := &session{options: &o, dial: s.dial, conns: s.conns}
	list, err := one.listNodes(ctx)
	if err != nil {
		return nil
	}
	return list
}

// otherRows are the members that no row tells of. A member's URL is not the
// address that clients use, so an address that did not answer cannot be told
// from a member that is offline: as many offline members are left out as there
// are such addresses, lest a dead node count twice.
func otherRows(rows []nodeRow, list *serverpb.ListNodesResponse) []nodeRow {
	known := make(map[string]bool)
	silent := 0
	for _, r := range rows {
		known[r.ID] = true
		if r.ID == "" {
			silent++
		}
	}
	var others []nodeRow
	for _, member := range sortedMembers(list) {
		id := strconv.FormatUint(member.GetNodeId(), 10)
		if known[id] || known[strconv.FormatUint(member.GetNodeId(), 16)] {
			continue
		}
		row := memberRow(id, member)
		if row.Health != alive && silent > 0 {
			silent--
			continue
		}
		others = append(others, row)
	}
	return others
}

func memberRow(id string, member *modelspb.NodeInfo) nodeRow {
	row := nodeRow{ID: id, Address: member.GetNodeUrl(), Role: "master", Health: alive}
	switch member.GetStatus() {
	case modelspb.NodeInfo_OFFLINE, modelspb.NodeInfo_UNKNOWN:
		row.Health = member.GetStatus().String()
	default:
		row.VBuckets = []vBucketRow{{IsLeader: member.GetStatus() == modelspb.NodeInfo_LEADER}}
		row.Reason = "as its cluster sees it: -a does not name its address"
	}
	return row
}

func (s *session) printStatus(rows []nodeRow, live int) error {
	if s.out.json {
		return s.out.value(struct {
			Alive int       `json:"alive"`
			Total int       `json:"total"`
			Nodes []nodeRow `json:"nodes"`
		}{live, len(rows), rows})
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		cells[i] = r.columns()
	}
	if err := writeColumns(s.out.w, cells); err != nil {
		return err
	}
	return s.out.line(fmt.Sprintf("%d alive, %d total", live, len(rows)))
}

// columns is a row as text. Indexes are those of the only vBucket, or sums
// over several; the lag is the largest.
func (r nodeRow) columns() []string {
	cells := []string{orDash(r.ID), r.Address, orDash(r.Role), r.Health}
	if len(r.VBuckets) == 0 || r.VBuckets[0].State == "" {
		if len(r.VBuckets) > 0 && r.VBuckets[0].IsLeader {
			cells = append(cells, "leader=self")
		}
		return append(cells, r.Reason)
	}
	var total vBucketRow
	leads := 0
	for _, v := range r.VBuckets {
		total.CommitIndex += v.CommitIndex
		total.AppliedIndex += v.AppliedIndex
		total.Term = max(total.Term, v.Term)
		total.LagChanges = max(total.LagChanges, v.LagChanges)
		total.LagMillis = max(total.LagMillis, v.LagMillis)
		total.WritesPaused = total.WritesPaused || v.WritesPaused
		if v.IsLeader {
			leads++
		}
	}
	leader := orDash(r.VBuckets[0].Leader)
	switch {
	case len(r.VBuckets) > 1:
		leader = fmt.Sprintf("self for %d of %d vBuckets", leads, len(r.VBuckets))
	case leads == 1:
		leader = "self"
	}
	cells = append(cells, "leader="+leader, fmt.Sprintf("term=%d", total.Term),
		fmt.Sprintf("commit=%d", total.CommitIndex), fmt.Sprintf("applied=%d", total.AppliedIndex),
		fmt.Sprintf("lag=%d/%dms", total.LagChanges, total.LagMillis))
	if total.WritesPaused {
		cells = append(cells, "writes paused")
	}
	if r.Reason != "" {
		cells = append(cells, r.Reason)
	}
	return cells
}
