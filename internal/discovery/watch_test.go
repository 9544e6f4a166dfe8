package discovery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// watching is a client's watch.
type watching struct {
	grpc.ServerStreamingClient[serverpb.ClusterInfoChange]
	t    *testing.T
	rows map[rowKey]*serverpb.RegionInfo
	stop func()
}

// watch begins a watch, and returns once all rows have come.
func (s *site) watch(t *testing.T, req *serverpb.GetClusterInfoRequest) *watching {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	stream, err := s.DKVDiscoveryClient.WatchClusterInfo(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	w := &watching{ServerStreamingClient: stream, t: t, rows: make(map[rowKey]*serverpb.RegionInfo), stop: cancel}
	for !w.next().GetComplete() {
	}
	return w
}

func (w *watching) next() *serverpb.ClusterInfoChange {
	w.t.Helper()
	m, err := w.Recv()
	if err != nil {
		w.t.Fatal("watch:", err)
	}
	if n := proto.Size(m); n > maxWatchChunk+64 {
		w.t.Errorf("a message of %d bytes", n)
	}
	for _, r := range m.GetGone() {
		delete(w.rows, keyOf(r))
	}
	for _, r := range m.GetRows() {
		w.rows[keyOf(r)] = r
	}
	return m
}

func (w *watching) text() []string {
	var rows []*serverpb.RegionInfo
	for _, r := range w.rows {
		rows = append(rows, r)
	}
	sortRows(rows)
	return text(rows)
}

// until reads on until the rows are as they should be.
func (w *watching) until(want ...string) {
	w.t.Helper()
	for !slices.Equal(w.text(), want) {
		if w.next(); w.t.Failed() {
			return
		}
	}
}

func TestWatch(t *testing.T) {
	_, sites := newSites(t)
	sites[0].update(t, region("db/0/a:1/dc1", leader, term(1)), region("db/1/a:1/dc1", leader))
	db, vBucket := "db", "0"
	for i, s := range sites[:2] { // at the owner, and by way of another node
		node := fmt.Sprintf("db/0/n%d:1/dc1", i)
		w := s.watch(t, &serverpb.GetClusterInfoRequest{Database: &db, VBucket: &vBucket})
		w.until("db/0/a:1/dc1 LEADER")
		sites[1].update(t, region(node, secondary))
		w.until("db/0/a:1/dc1 LEADER", node+" PRIMARY_FOLLOWER")
		sites[1].update(t, region("db/1/b:1/dc1", secondary)) // is not looked for
		sites[1].update(t, region(node, leader, term(2)))
		w.until("db/0/a:1/dc1 SECONDARY_FOLLOWER", node+" LEADER")
		sites[1].update(t, region(node, inactive))
		w.until("db/0/a:1/dc1 LEADER")
		sites[1].update(t, region("db/0/a:1/dc1", leader, term(1), func(r *serverpb.RegionInfo) { r.Slaves = uint32(i + 1) }))
		for w.rows[keyOf(region("db/0/a:1/dc1", leader))].GetSlaves() != uint32(i+1) {
			w.next()
		}
		w.stop()
	}
}

func TestWatchSeesRowsTimeOut(t *testing.T) {
	_, sites := newSites(t)
	w := sites[1].watch(t, new(serverpb.GetClusterInfoRequest))
	sites[0].update(t, region("db/0/a:1/dc1", leader))
	w.until("db/0/a:1/dc1 LEADER")
	table := sites[0].current.Load().table
	now := time.Now()
	testkit.Eventually(t, "the row times out", func() bool {
		now = now.Add(10 * time.Second) // less than what counts as a stall
		table.expire(now)
		return len(table.query(filter{})) == 0
	})
	for {
		if m := w.next(); len(m.GetGone()) > 0 {
			want := &serverpb.RegionInfo{DcID: "dc1", Database: "db", VBucket: "0", NodeAddress: "a:1"}
			if !proto.Equal(m.GetGone()[0], want) {
				t.Errorf("gone: %v", m.GetGone())
			}
			return
		}
	}
}

// TestWatchFollowsDataCentre holds that a watch reports a row that leaves its data centre.
func TestWatchFollowsDataCentre(t *testing.T) {
	_, sites := newSites(t)
	dc := "dc1"
	w := sites[0].watch(t, &serverpb.GetClusterInfoRequest{DcID: &dc})
	sites[0].update(t, region("db/0/a:1/dc1", slave))
	w.until("db/0/a:1/dc1 ACTIVE_SLAVE")
	sites[0].update(t, region("db/0/a:1/dc2", slave))
	w.until()
}

func TestWatchEndsWithItsOwner(t *testing.T) {
	l, sites := newSites(t)
	sites[0].update(t, region("db/0/a:1/dc1", leader))
	watches := []*watching{sites[0].watch(t, new(serverpb.GetClusterInfoRequest)), sites[2].watch(t, new(serverpb.GetClusterInfoRequest))}
	testkit.Eventually(t, "both are counted", func() bool { o, _ := sites[0].Observe(); return o.Watchers == 2 })
	l.elect(2)
	for i, w := range watches {
		for {
			_, err := w.Recv()
			if err == nil {
				continue // a sign of life
			}
			if status.Code(err) != codes.Unavailable {
				t.Errorf("watch %d: %v", i, err)
			}
			break
		}
	}
	sites[2].watch(t, new(serverpb.GetClusterInfoRequest)).until("db/0/a:1/dc1 LEADER")
}

// TestWatchInChunks sends more rows than a message may hold.
func TestWatchInChunks(t *testing.T) {
	_, sites := newSites(t)
	rows := make([]*serverpb.RegionInfo, 3000)
	for i := range rows {
		rows[i] = region(fmt.Sprintf("db%d/%05d/a:1/dc1", i/1000, i), leader, func(r *serverpb.RegionInfo) { r.NexusClusterUrl = proto.String(strings.Repeat("n", 1000)) })
	}
	sites[0].update(t, rows...)
	for _, s := range sites[:2] {
		if w := s.watch(t, new(serverpb.GetClusterInfoRequest)); len(w.rows) != len(rows) {
			t.Errorf("%d rows", len(w.rows))
		}
	}
}

// TestSlowWatch changes rows many times while a watch is not read: it costs neither
// memory nor anybody else's time, and ends up right.
func TestSlowWatch(t *testing.T) {
	_, sites := newSites(t)
	w := sites[0].watch(t, new(serverpb.GetClusterInfoRequest))
	table := sites[0].current.Load().table
	long := strings.Repeat("n", 2<<10)
	for i := range 200 {
		for node := range 20 {
			table.say(time.Now(), region(fmt.Sprintf("db/0/n%02d:1/dc1", node), slave, func(r *serverpb.RegionInfo) { r.NodeName = fmt.Sprint(i, long) }))
		}
	}
	table.mu.Lock()
	for known := range table.watchers[""] {
		if len(known.pending) > 20 {
			t.Errorf("%d changes of 20 rows are kept", len(known.pending))
		}
	}
	table.mu.Unlock()
	newest := func() bool {
		for _, r := range w.rows {
			if r.GetNodeName() != fmt.Sprint(199, long) {
				return false
			}
		}
		return len(w.rows) == 20
	}
	for !newest() {
		w.next()
	}
}

// TestSignOfLife sends something when there is nothing to tell.
func TestSignOfLife(t *testing.T) {
	_, sites := newSites(t)
	w := sites[1].watch(t, new(serverpb.GetClusterInfoRequest))
	if m := w.next(); len(m.GetRows())+len(m.GetGone()) != 0 || m.GetComplete() {
		t.Errorf("%v", m)
	}
}
