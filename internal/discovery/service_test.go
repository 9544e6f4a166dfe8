package discovery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// info asks a node as a client does.
func (s *site) info(t testing.TB, req *serverpb.GetClusterInfoRequest) []string {
	t.Helper()
	res, err := s.DKVDiscoveryClient.GetClusterInfo(t.Context(), req)
	if err != nil {
		t.Fatal("get:", err)
	}
	return text(res.GetRegionInfos())
}

func (s *site) update(t testing.TB, rows ...*serverpb.RegionInfo) {
	t.Helper()
	req := &serverpb.UpdateStatusRequest{RegionInfo: rows[0], More: rows[1:], Timestamp: uint64(time.Now().Unix())}
	if _, err := s.DKVDiscoveryClient.UpdateStatus(t.Context(), req); err != nil {
		t.Fatal("update:", err)
	}
}

// TestOldClient speaks the registry's first contract: one row a request, fields
// below 100 only, at any node.
func TestOldClient(t *testing.T) {
	l, sites := newSites(t)
	in := &serverpb.RegionInfo{
		DcID: "dc1", NodeAddress: "a:1", Database: "db", VBucket: "default", Status: leader,
		MasterHost: proto.String("m:1"), NexusClusterUrl: proto.String("http://a:2"), HttpAddress: "a:3",
	}
	for i, s := range sites {
		for _, stamp := range []uint64{0, 1, uint64(time.Now().Unix())} {
			res, err := s.DKVDiscoveryClient.UpdateStatus(t.Context(), &serverpb.UpdateStatusRequest{RegionInfo: in, Timestamp: stamp})
			if err != nil || res.GetCode() != 0 {
				t.Errorf("node %d: %v, %v", i, res, err)
			}
		}
		res, err := s.DKVDiscoveryClient.GetClusterInfo(t.Context(), new(serverpb.GetClusterInfoRequest))
		if err != nil || len(res.GetRegionInfos()) != 1 || !proto.Equal(res.GetRegionInfos()[0], in) {
			t.Errorf("node %d: %v, %v", i, res, err)
		}
	}
	if n := l.proposals.Load(); n != 1 {
		t.Errorf("%d writes of one row", n)
	}
}

func TestFilters(t *testing.T) {
	_, sites := newSites(t)
	rows := []string{"db/0/a:1/dc1", "db/0/b:1/dc2", "db/1/a:1/dc1", "other/0/c:1/dc2"}
	var in []*serverpb.RegionInfo
	for _, r := range rows {
		in = append(in, region(r, slave))
	}
	sites[1].update(t, in...)
	for _, c := range []struct {
		dc, database, vBucket string
		want                  []int
	}{
		{"", "", "", []int{0, 1, 2, 3}},
		{"dc1", "", "", []int{0, 2}},
		{"", "db", "", []int{0, 1, 2}},
		{"", "", "0", []int{0, 1, 3}},
		{"", "db", "0", []int{0, 1}},
		{"dc2", "db", "0", []int{1}},
		{"dc2", "", "0", []int{1, 3}},
		{"dc3", "", "", nil},
		{"", "none", "", nil},
		{"", "db", "7", nil},
	} {
		want := []string{}
		for _, i := range c.want {
			want = append(want, rows[i]+" ACTIVE_SLAVE")
		}
		empty := &serverpb.GetClusterInfoRequest{DcID: &c.dc, Database: &c.database, VBucket: &c.vBucket}
		absent := new(serverpb.GetClusterInfoRequest)
		for _, part := range []struct {
			to    **string
			value string
		}{{&absent.DcID, c.dc}, {&absent.Database, c.database}, {&absent.VBucket, c.vBucket}} {
			if part.value != "" {
				*part.to = &part.value
			}
		}
		for i, s := range sites[:2] {
			for _, req := range []*serverpb.GetClusterInfoRequest{empty, absent} {
				if got := s.info(t, req); !slices.Equal(got, want) {
					t.Errorf("node %d, %v: %q, want %q", i, req, got, want)
				}
			}
		}
	}
}

func TestInvalidRows(t *testing.T) {
	l, sites := newSites(t)
	good := region("db/0/a:1/dc1", leader)
	with := func(edit func(*serverpb.RegionInfo)) *serverpb.RegionInfo {
		r := proto.CloneOf(good)
		edit(r)
		return r
	}
	for _, c := range []struct {
		row  *serverpb.RegionInfo
		want string
	}{
		{nil, "no regionInfo"},
		{with(func(r *serverpb.RegionInfo) { r.Database = "" }), "regionInfo.database is empty"},
		{with(func(r *serverpb.RegionInfo) { r.VBucket = "" }), "regionInfo.vBucket is empty"},
		{with(func(r *serverpb.RegionInfo) { r.NodeAddress = "" }), "regionInfo.nodeAddress is empty"},
		{with(func(r *serverpb.RegionInfo) { r.NodeAddress = "a\x00b" }), "control character"},
		{with(func(r *serverpb.RegionInfo) { r.DcID = "a\nb" }), "control character"},
		{with(func(r *serverpb.RegionInfo) { r.Database = strings.Repeat("d", maxName+1) }), "256 bytes"},
		{with(func(r *serverpb.RegionInfo) { r.Status = 9 }), "status 9 is not known"},
		{with(func(r *serverpb.RegionInfo) { r.NodeName = strings.Repeat("n", 1<<20) }), "at most 255"},
		{with(func(r *serverpb.RegionInfo) { r.NodeAddress = strings.Repeat("n", 300) }), "at most 259"},
		{with(func(r *serverpb.RegionInfo) { r.HistoryID = strings.Repeat("n", 200) }), "at most 64"},
		{with(func(r *serverpb.RegionInfo) { r.NexusClusterUrl = proto.String(strings.Repeat("n", 4096)) }), "at most 2048"},
		{with(func(r *serverpb.RegionInfo) { r.VBuckets = 7 }), "power of two"},
		{with(func(r *serverpb.RegionInfo) { r.VBuckets = 1 << 31 }), "power of two of at most 1024"},
		{with(func(r *serverpb.RegionInfo) { r.VBuckets = 0xffffffff }), "power of two"}, // -1
		{with(func(r *serverpb.RegionInfo) { r.VBuckets, r.VBucket = 4, "4" }), "not one of 4 vBuckets"},
		{with(func(r *serverpb.RegionInfo) { r.VBuckets, r.VBucket = 4, "03" }), "not one of 4 vBuckets"},
		{with(func(r *serverpb.RegionInfo) { r.VBuckets, r.VBucket = 4, "default" }), "not one of 4 vBuckets"},
	} {
		for _, req := range []*serverpb.UpdateStatusRequest{
			{RegionInfo: c.row}, {RegionInfo: good, More: []*serverpb.RegionInfo{c.row}},
		} {
			if c.row == nil && len(req.More) > 0 {
				continue // cannot be sent
			}
			for _, s := range sites[:2] {
				_, err := s.DKVDiscoveryClient.UpdateStatus(t.Context(), req)
				if st := status.Convert(err); st.Code() != codes.InvalidArgument || !strings.Contains(st.Message(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			}
		}
	}
	if got := l.stored(t); len(got) != 0 {
		t.Errorf("stored %q of refused requests", got)
	}
}

// TestOwnerDies has the registry taken over while its clients talk to a node that
// stays.
func TestOwnerDies(t *testing.T) {
	l, sites := newSites(t)
	row, want := region("db/0/a:1/dc1", leader), []string{"db/0/a:1/dc1 LEADER"}
	sites[2].update(t, row)
	sites[0].stop()
	l.elect(0)
	// The registry has no owner: its rows are as last known, and changes have to wait.
	for _, s := range sites[1:] {
		if got := s.info(t, new(serverpb.GetClusterInfoRequest)); !slices.Equal(got, want) {
			t.Errorf("rows %q", got)
		}
	}
	updated := make(chan error, 1)
	go func() {
		req := &serverpb.UpdateStatusRequest{RegionInfo: region("db/0/b:1/dc1", secondary)}
		_, err := sites[2].DKVDiscoveryClient.UpdateStatus(context.Background(), req)
		updated <- err
	}()
	l.elect(2)
	if err := <-updated; err != nil {
		t.Error("an update that met the change of owners:", err)
	}
	want = append(want, "db/0/b:1/dc1 PRIMARY_FOLLOWER")
	for _, s := range sites[1:] {
		if got := s.info(t, new(serverpb.GetClusterInfoRequest)); !slices.Equal(got, want) {
			t.Errorf("rows %q", got)
		}
	}
}

// TestOwnerThatDoesNotAnswer forwards to a dead node for no longer than it is taken
// for the owner.
func TestOwnerThatDoesNotAnswer(t *testing.T) {
	l, sites := newSites(t)
	sites[1].update(t, region("db/0/a:1/dc1", leader))
	sites[0].stop()
	if got := sites[1].info(t, new(serverpb.GetClusterInfoRequest)); len(got) != 1 {
		t.Errorf("rows %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := sites[1].DKVDiscoveryClient.UpdateStatus(ctx, &serverpb.UpdateStatusRequest{RegionInfo: region("db/0/b:1/dc1", slave)})
	if c := status.Code(err); c != codes.Unavailable && c != codes.DeadlineExceeded {
		t.Error(err)
	}
	l.elect(3)
	sites[1].update(t, region("db/0/b:1/dc1", slave))
}

// TestOwnerThatWasRemoved: what a node says that was removed while it owned the registry is not said
// of the node that was asked.
func TestOwnerThatWasRemoved(t *testing.T) {
	l, sites := newSites(t)
	row := region("db/0/a:1/dc1", leader)
	sites[1].update(t, row)
	l.fail(kv.ErrRemoved)
	next := time.AfterFunc(100*time.Millisecond, func() { l.fail(nil); l.elect(3) })
	defer next.Stop()
	sites[1].update(t, region("db/0/b:1/dc1", secondary))
}

// TestOneHop turns a request away that has been handed on to a node which is not the
// owner.
func TestOneHop(t *testing.T) {
	_, sites := newSites(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), string(route.RegistryForwarded), "1")
	_, err := sites[1].DKVDiscoveryClient.GetClusterInfo(ctx, new(serverpb.GetClusterInfoRequest))
	if st := status.Convert(err); st.Code() != codes.Unavailable || !strings.Contains(st.Message(), "does not own the registry") {
		t.Error(err)
	}
	if _, err := sites[0].DKVDiscoveryClient.GetClusterInfo(ctx, new(serverpb.GetClusterInfoRequest)); err != nil {
		t.Error(err)
	}
}

func TestStoreThatFails(t *testing.T) {
	l, sites := newSites(t)
	row := region("db/0/a:1/dc1", leader, term(1))
	sites[0].update(t, row)
	l.fail(kv.Errorf(kv.Exhausted, "the disk is full"))
	sites[0].update(t, row) // nothing new
	_, err := sites[1].DKVDiscoveryClient.UpdateStatus(t.Context(),
		&serverpb.UpdateStatusRequest{RegionInfo: region("db/0/a:1/dc1", leader, term(2))})
	if st := status.Convert(err); st.Code() != codes.ResourceExhausted || st.Message() != "the disk is full" {
		t.Error(err)
	}
	if got := sites[0].info(t, new(serverpb.GetClusterInfoRequest)); len(got) != 1 {
		t.Errorf("rows %q", got)
	}
	l.fail(nil)
	sites[1].update(t, region("db/0/a:1/dc1", leader, term(2)))
}

// TestManyRows sends the rows of many vBuckets at once: they cost few writes, each
// of them bounded.
func TestManyRows(t *testing.T) {
	l, sites := newSites(t)
	const n = 5 * maxProposalRows
	rows := make([]*serverpb.RegionInfo, n)
	for i := range rows {
		rows[i] = region(fmt.Sprintf("db%d/%05d/a:1/dc1", i/1000, i), leader)
	}
	sites[1].update(t, rows...)
	if got := l.proposals.Load(); got < 10 || got > 15 {
		t.Errorf("%d writes", got)
	}
	if got := l.rows.Load(); got != 2*n { // and of each vBucket, what leads it
		t.Errorf("%d rows were written", got)
	}
	if got := sites[2].info(t, new(serverpb.GetClusterInfoRequest)); len(got) != n {
		t.Errorf("%d rows", len(got))
	}
	big := make([]*serverpb.RegionInfo, 320)
	for i := range big {
		big[i] = region(fmt.Sprintf("big/%05d/a:1/dc1", i), slave, func(r *serverpb.RegionInfo) { r.NexusClusterUrl = proto.String(strings.Repeat("n", maxURLs)) })
	}
	before := l.proposals.Load()
	sites[1].update(t, big...)
	if got := l.proposals.Load() - before; got != 3 { // of 256 KiB at most
		t.Errorf("%d writes of 640 KiB", got)
	}
}

func TestObserve(t *testing.T) {
	_, sites := newSites(t)
	three := func(r *serverpb.RegionInfo) { r.NexusClusterUrl = proto.String("http://a:2,http://b:2,http://c:2") }
	sites[0].update(t,
		region("db/0/a:1/dc1", leader, three), region("db/0/b:1/dc1", secondary, three), region("db/0/c:1/dc1", secondary, three),
		region("db/1/a:1/dc1", leader, three), region("db/1/b:1/dc1", secondary, three), region("db/1/c:1/dc1", inactive, three),
		region("one/0/d:1/dc1", leader), region("one/1/e:1/dc1", slave))
	o, owner := sites[0].Observe()
	if !owner || o.VBuckets != 4 || o.Leaderless != 1 || o.UnderReplicated != 2 || o.Watchers != 0 {
		t.Errorf("%+v, owner %v", o, owner)
	}
	if fmt.Sprint(o.Rows) != fmt.Sprint(map[serverpb.RegionStatus]int{inactive: 1, leader: 3, primary: 2, secondary: 1, slave: 1}) {
		t.Errorf("rows %v", o.Rows)
	}
	if o.OldestHeartbeat <= 0 {
		t.Errorf("the oldest heartbeat is %v old", o.OldestHeartbeat)
	}
	if _, owner := sites[1].Observe(); owner {
		t.Error("a node that does not own the registry counts")
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{HeartbeatTimeout: time.Minute, StatusTTL: time.Second},
		{HeartbeatTimeout: -time.Second},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if r, err := New(Options{}); err != nil || r.times != (times{DefaultHeartbeatTimeout, DefaultStatusTTL}) {
		t.Error(r, err)
	}
}
