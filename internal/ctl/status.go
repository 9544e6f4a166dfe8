package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/timing"
)

// The health of a node that serves, of one that does not answer, of one that does not
// accept the caller, and of one that cannot serve yet.
const (
	alive       = "ALIVE"
	unhealthy   = "UNHEALTHY"
	unreachable = "UNREACHABLE"
	rejecting   = "REJECTED" // it does not accept the caller
	waiting     = "WAITING"  // to become a member of a cluster
)

// nodeRow is one node in -status.
type nodeRow struct {
	ID        string       `json:"id"`
	Name      string       `json:"name,omitempty"`
	Address   string       `json:"address"`
	URL       string       `json:"url,omitempty"` // where it speaks Raft; members only
	Role      string       `json:"role"`
	Health    string       `json:"health"` // ALIVE, or one of the others above or a state
	NonVoting bool         `json:"non_voting,omitempty"`
	Cluster   string       `json:"cluster_id,omitempty"`
	Version   string       `json:"version,omitempty"`
	VBuckets  []vBucketRow `json:"vbuckets,omitempty"`
	Timing    string       `json:"timing,omitempty"`         // that its process runs with
	Recorded  string       `json:"cluster_timing,omitempty"` // what its log has recorded
	Next      string       `json:"next_timing,omitempty"`    // and what that is being changed to
	Became    string       `json:"became,omitempty"`         // what a promotion has made of it
	Record    string       `json:"record,omitempty"`         // what the registry's record means for it
	// ClusterVersion is the version that its cluster uses, and Understands the newest one
	// that it could; both are 0 if the node does not say.
	ClusterVersion uint32 `json:"cluster_version,omitempty"`
	Understands    uint32 `json:"understands,omitempty"`
	// MemtableBytes and CacheBytes are what its storage engines hold in memory.
	MemtableBytes uint64 `json:"memtable_bytes,omitempty"`
	CacheBytes    uint64 `json:"cache_bytes,omitempty"`
	// Tasks are what it does at this moment that takes a while.
	Tasks  []taskRow `json:"tasks,omitempty"`
	Fault  string    `json:"fault,omitempty"`  // what a drill does to it
	Reason string    `json:"reason,omitempty"` // why it is not ALIVE
	// self is the address that it says it serves at.
	self string
}

// runStatus asks every address at the same time, then the members that no address
// names.
func runStatus(ctx context.Context, s *session, _ []string) error {
	v := &survey{session: s}
	unknown := v.take(ctx)
	if err := s.printStatus(v.rows); err != nil {
		return err
	}
	if unknown != nil {
		return unknown
	}
	return v.majority()
}

// runHealth asks one node about itself alone: the state of the cluster, which -status
// shows, must not make a supervisor restart a node that serves.
func runHealth(ctx context.Context, s *session, _ []string) error {
	var res *healthpb.HealthCheckResponse
	err := s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		res, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	})
	if err != nil {
		return err
	}
	if st := res.GetStatus(); st != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s does not serve: %s%s", strings.Join(s.Addrs, ","), st, s.whyNot(ctx))
	}
	s.sayRejects(ctx)
	return s.out.OK(0)
}

// rejectsTimeout bounds the second question of -health: the answer to the first one must not wait
// for long.
const rejectsTimeout = time.Second

// sayRejects says on stderr why a node that serves rejects writes, as while its disk is full. It
// serves reads, and a restart would not help: that is no reason to fail.
func (s *session) sayRejects(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rejectsTimeout)
	defer cancel()
	row := s.nodeStatus(ctx, strings.Join(s.Addrs, ","))
	if len(row.VBuckets) == 0 {
		return // it has none, or does not say
	}
	switch worst := row.worstFirst()[0]; {
	case worst.Reason == "":
	case worst.State == serving:
		fmt.Fprintln(s.stderr, "warning: it serves reads, but rejects writes: "+oneLine(worst.Reason))
	default:
		fmt.Fprintln(s.stderr, oneLine("warning: it serves reads, but vBucket "+worst.Name+" is "+worst.condition()+": "+worst.Reason))
	}
}

// whyNot returns why a node does not serve, as the end of a sentence.
func (s *session) whyNot(ctx context.Context) string {
	if row := s.nodeStatus(ctx, strings.Join(s.Addrs, ",")); row.Reason != "" {
		return "; " + row.Reason
	}
	return "; see -status"
}

// eachAddress runs ask for every address at the same time, each through a
// session that knows only that address, and returns the answers in order.
func eachAddress[T any](s *session, addrs []string, ask func(one *session, addr string) T) []T {
	answers := make([]T, len(addrs))
	var group sync.WaitGroup
	for i, addr := range addrs {
		group.Go(func() {
			one := s.to(addr)
			defer one.Close()
			answers[i] = ask(one, addr)
		})
	}
	group.Wait()
	return answers
}

func (s *session) getNodeStatus(ctx context.Context) (*serverpb.NodeStatusResponse, error) {
	var res *serverpb.NodeStatusResponse
	err := s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		res, err = admin.NodeStatus(ctx, conn)
		return err
	})
	return res, err
}

func (s *session) nodeStatus(ctx context.Context, addr string) nodeRow {
	res, err := s.getNodeStatus(ctx)
	var re *nodes.RequestError
	var down *nodes.UnreachableError
	switch {
	case err == nil:
		return rowOf(addr, res)
	case errors.As(err, &down):
		return nodeRow{Address: addr, Health: unreachable, Reason: oneLine(down.Why())}
	case errors.As(err, &re) && re.Waiting != "":
		return nodeRow{Address: addr, Health: waiting, Reason: oneLine(re.Waiting)}
	case errors.As(err, &re) && re.Code == codes.Unimplemented:
		return nodeRow{Address: addr, Health: alive, Reason: "it answers, but not with a status"}
	case errors.As(err, &re) && (re.Code == codes.Unauthenticated || re.Code == codes.PermissionDenied):
		return nodeRow{Address: addr, Health: rejecting, Reason: oneLine(err.Error())}
	default:
		return nodeRow{Address: addr, Health: unreachable, Reason: oneLine(err.Error())}
	}
}

func rowOf(addr string, res *serverpb.NodeStatusResponse) nodeRow {
	row := nodeRow{ID: res.GetNodeId(), Name: res.GetNodeName(), Address: addr, self: res.GetAddress(), Role: res.GetRole(),
		Health: alive, Cluster: res.GetClusterId(), Version: res.GetVersion(),
		Timing: res.GetTiming(), Recorded: res.GetClusterTiming(), Next: res.GetNextTiming(), Became: res.GetBecame(), Record: res.GetRecord(),
		ClusterVersion: res.GetClusterVersion(), Understands: res.GetUnderstands(), Fault: res.GetFault(),
		MemtableBytes: res.GetMemtableBytes(), CacheBytes: res.GetCacheBytes(), Tasks: tasksOf(res)}
	for _, v := range res.GetVBuckets() {
		row.VBuckets = append(row.VBuckets, vBucketOf(v))
	}
	if len(row.VBuckets) == 0 {
		return row
	}
	switch worst := row.worstFirst()[0]; {
	case worst.State != serving:
		row.Health, row.Reason = strings.ToUpper(orDash(worst.State)), cmp.Or(worst.Unhealthy, worst.Reason)
	case worst.Unhealthy != "":
		row.Health, row.Reason = unhealthy, worst.Unhealthy
	}
	return row
}

func (s *session) printStatus(rows []nodeRow) error {
	live := countAlive(rows)
	if s.out.JSON {
		return s.out.Value(struct {
			Alive int       `json:"alive"`
			Total int       `json:"total"`
			Nodes []nodeRow `json:"nodes"`
		}{live, len(rows), rows})
	}
	var cells [][]string
	for _, r := range rows {
		if !s.Verbose {
			cells = append(cells, r.columns())
			continue
		}
		cells = append(cells, slices.Concat(r.columns(), r.version(), r.memory(), r.timing(), r.standing(), r.record()))
		cells = append(cells, r.vBucketLines()...)
	}
	if err := output.WriteColumns(s.out.W, cells); err != nil {
		return err
	}
	if note := unfinished(rows); note != "" {
		if err := s.out.Line(note); err != nil {
			return err
		}
	}
	// It is the last line for scripts of the earlier system's tool, too.
	return s.out.Line(fmt.Sprintf("%d alive, %d total", live, len(rows)))
}

// version returns the cell of a verbose row for the version that its cluster uses.
func (r nodeRow) version() []string {
	if r.ClusterVersion == 0 {
		return nil
	}
	return []string{fmt.Sprintf("cluster-version=%d", r.ClusterVersion)}
}

// memory returns the cells of a verbose row for what its storage engines hold in memory; none
// for a node that does not say.
func (r nodeRow) memory() []string {
	if r.MemtableBytes == 0 && r.CacheBytes == 0 {
		return nil
	}
	return []string{"memtables=" + memorySize(r.MemtableBytes), "cache=" + memorySize(r.CacheBytes)}
}

// memorySize writes a number of bytes as one word.
func memorySize(n uint64) string { return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20)) }

// unfinished says that an upgrade is in progress; "" if none is.
func unfinished(rows []nodeRow) string {
	if u := versionsOf(rows); u.cluster != 0 && u.cluster < u.target {
		return fmt.Sprintf("cluster-version %d is being upgraded to %d: dkvctl -upgrade", u.cluster, u.target)
	}
	return ""
}

// timing returns the cells of a verbose row: the timing that the node runs with, and the
// one that the cluster has recorded.
func (r nodeRow) timing() []string {
	if r.Timing == "" {
		return nil
	}
	cells := []string{"timing=" + timingName(r.Timing)}
	switch {
	case r.Recorded == "":
		return append(cells, "cluster=-")
	case r.Next != "":
		return append(cells, "cluster="+timingName(r.Recorded), "changing to "+timingName(r.Next))
	}
	return append(cells, "cluster="+timingName(r.Recorded))
}

// timingName returns a timing's name, or its values if it has none.
func timingName(text string) string {
	t, err := timing.Parse(text)
	if err != nil {
		return text // of a newer release
	}
	return t.String()
}

// columns returns a row's cells. Indexes are those of the only vBucket, or sums over
// several; the lag is the largest.
func (r nodeRow) columns() []string {
	cells := []string{orDash(r.ID), r.Address, orDash(r.Role), r.Health}
	if len(r.VBuckets) == 0 || r.VBuckets[0].State == "" {
		if len(r.VBuckets) > 0 && r.VBuckets[0].IsLeader {
			cells = append(cells, "leader=self")
		}
		if r.URL != "" && r.URL != r.Address {
			cells = append(cells, r.URL)
		}
		return append(cells, r.remarks()...)
	}
	var total vBucketRow
	leads := 0
	for _, v := range r.VBuckets {
		total.CommitIndex += v.CommitIndex
		total.AppliedIndex += v.AppliedIndex
		total.Term = max(total.Term, v.Term)
		total.LagChanges = max(total.LagChanges, v.LagChanges)
		total.LagMillis = max(total.LagMillis, v.LagMillis)
		total.SnapshotBytes += v.SnapshotBytes
		total.SnapshotSize += v.SnapshotSize
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
	if total.SnapshotSize > 0 {
		cells = append(cells, fmt.Sprintf("receives a snapshot: %s of about %s", mebibytes(total.SnapshotBytes), mebibytes(total.SnapshotSize)))
	}
	if total.WritesPaused {
		cells = append(cells, "writes paused")
	}
	cells = append(cells, r.vBucketCells()...)
	return append(cells, r.remarks()...)
}

// remarks returns the cells that only some rows have.
func (r nodeRow) remarks() []string {
	var cells []string
	if r.Became != "" && !strings.Contains(r.Reason, r.Became) {
		cells = append(cells, r.Became)
	}
	if r.Fault != "" {
		cells = append(cells, r.Fault)
	}
	for _, t := range r.Tasks {
		cells = append(cells, t.text())
	}
	if r.NonVoting {
		cells = append(cells, noVote)
	}
	if r.Reason != "" {
		cells = append(cells, r.Reason)
	}
	return cells
}
