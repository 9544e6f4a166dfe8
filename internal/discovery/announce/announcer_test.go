package announce

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// announce runs an announcer of rows that a test may replace.
func announce(t *testing.T, opts Options, rows ...*serverpb.RegionInfo) (a *Announcer, set func(...*serverpb.RegionInfo), stop func()) {
	t.Helper()
	var now atomic.Pointer[[]*serverpb.RegionInfo]
	now.Store(&rows)
	opts.Rows = func() []*serverpb.RegionInfo { return *now.Load() }
	if opts.Pool == nil {
		opts.Pool = newPool(t)
	}
	a = NewAnnouncer(opts)
	stop = testkit.Run(t, a.Run)
	return a, func(rows ...*serverpb.RegionInfo) { now.Store(&rows) }, stop
}

func TestAnnounce(t *testing.T) {
	f := newFakeRegistry()
	n := serve(t, f)
	_, _, stop := announce(t, Options{Addresses: []string{n.addr}, Interval: 10 * time.Millisecond},
		region("0", leader), region("1", slave))
	testkit.Eventually(t, "several heartbeats", func() bool { return len(f.heartbeats()) >= 10 })
	stop()
	got := f.heartbeats()
	for i := 0; i < len(got)-2; i += 2 {
		if got[i] != "0 LEADER" || got[i+1] != "1 ACTIVE_SLAVE" {
			t.Fatalf("heartbeat %q", got[i:])
		}
	}
	if end := got[len(got)-2:]; !slices.Equal(end, []string{"0 INACTIVE", "1 INACTIVE"}) {
		t.Errorf("the last heartbeat is %q", end)
	}
	for _, r := range f.requests {
		if age := time.Since(time.Unix(int64(r.GetTimestamp()), 0)); age < -time.Second || age > time.Minute {
			t.Errorf("a heartbeat of %v", age)
		}
	}
}

// TestPoke sends what is new at once.
func TestPoke(t *testing.T) {
	f := newFakeRegistry()
	n := serve(t, f)
	a, set, _ := announce(t, Options{Addresses: []string{n.addr}, Interval: time.Hour}, region("0", slave))
	testkit.Eventually(t, "the first heartbeat", f.heard("0 ACTIVE_SLAVE"))
	set(region("0", leader))
	for range 5 {
		a.Poke() // never waits
	}
	testkit.Eventually(t, "the next", f.heard("0 LEADER"))
}

// TestDyingNodes has one node of the registry after the other die and come back.
func TestDyingNodes(t *testing.T) {
	f := newFakeRegistry()
	nodes := []*fakeNode{serve(t, f), serve(t, f), serve(t, f)}
	addrs := []string{nodes[0].addr, nodes[1].addr, nodes[2].addr}
	var log testkit.Log
	_, set, stop := announce(t, Options{Addresses: addrs, Interval: 10 * time.Millisecond, Log: log.Logger(slog.LevelInfo)}, region("start", slave))
	testkit.Eventually(t, "the first heartbeat", f.heard("start ACTIVE_SLAVE"))
	for i, n := range nodes {
		n.stop()
		name := fmt.Sprint("without-", i)
		set(region(name, slave))
		testkit.Eventually(t, name, f.heard(name+" ACTIVE_SLAVE"))
		n.restart(t)
	}
	for _, n := range nodes {
		n.stop()
	}
	set(region("back", slave))
	testkit.Eventually(t, "the loss is logged", func() bool { return log.Count("cannot be reached") > 0 })
	nodes[1].restart(t)
	testkit.Eventually(t, "back", f.heard("back ACTIVE_SLAVE"))
	testkit.Eventually(t, "each return is logged", func() bool { return log.Count("level=WARN") == log.Count("is reached again") })
	stop()
	if log.Count("level=WARN") > 4 { // all were away, at most once for each restart
		t.Errorf("log:\n%s", log.String())
	}
}

// TestFarewellIsBounded ends in time if no node listens.
func TestFarewellIsBounded(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	began := make(chan struct{})
	a := NewAnnouncer(Options{Addresses: []string{silent.Addr().String()}, Pool: newPool(t), Rows: func() []*serverpb.RegionInfo {
		select {
		case <-began:
		default:
			close(began)
		}
		return []*serverpb.RegionInfo{region("0", leader)}
	}})
	stop := testkit.Run(t, a.Run)
	<-began
	done := make(chan struct{})
	go func() { stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second): // a second, and what a busy machine adds
		t.Fatal("does not end")
	}
}

// TestRefusedRows does not ask other nodes about a row that none will take, and says
// why until it is taken.
func TestRefusedRows(t *testing.T) {
	for _, kind := range []kv.Kind{kv.Invalid, kv.Precondition, kv.Exhausted} {
		f := newFakeRegistry()
		f.fault = kv.Errorf(kind, "database \"db\" is held by cluster c")
		n := serve(t, f)
		var log testkit.Log
		a, _, stop := announce(t, Options{Addresses: []string{n.addr, "127.0.0.1:1"}, Interval: time.Millisecond, Log: log.Logger(slog.LevelInfo)}, region("", leader))
		testkit.Eventually(t, "it is logged", func() bool { return log.Count("held by cluster c") == 1 })
		if err := a.Refusal(); kv.KindOf(err) != kind {
			t.Error(err)
		}
		f.set(func() { f.fault = nil })
		testkit.Eventually(t, "it is taken", f.heard(" LEADER"))
		testkit.Eventually(t, "nothing is refused", func() bool { return a.Refusal() == nil })
		stop()
		if log.Count("cannot be reached") != 0 {
			t.Error("the registry counts as unreachable")
		}
	}
}

// A node that is at a limit of its own is not the registry: heartbeats go to the next one.
func TestBusyNodeIsPassedOver(t *testing.T) {
	f := newFakeRegistry()
	one, other := serve(t, f), serve(t, f)
	var log testkit.Log
	a, set, stop := announce(t, Options{Addresses: []string{one.addr, other.addr}, Interval: time.Millisecond, Log: log.Logger(slog.LevelInfo)}, region("", leader))
	defer stop()
	limit := &kv.Error{Kind: kv.Exhausted, RetryAfter: time.Minute, Err: errors.New("max-requests-in-flight")}
	for name, busy := range map[string][2]error{"first": {limit, nil}, "second": {nil, limit}} { // it began with either
		f.set(func() { one.busy, other.busy = busy[0], busy[1] })
		set(region(name, leader))
		testkit.Eventually(t, "it is heard although the "+name+" node is busy", f.heard(name+" LEADER"))
	}
	if err := a.Refusal(); err != nil {
		t.Error(err)
	}
}

func TestNoNodes(t *testing.T) {
	var log testkit.Log
	_, _, stop := announce(t, Options{Log: log.Logger(slog.LevelInfo)}, region("0", leader))
	testkit.Eventually(t, "it is logged", func() bool { return log.Count("discovery-service-addr") == 1 })
	stop()
}

func TestRequests(t *testing.T) {
	if got := requests(nil, 1); len(got) != 0 {
		t.Errorf("%d requests for nothing", len(got))
	}
	var rows []*serverpb.RegionInfo
	for i := range 1000 {
		r := region(fmt.Sprint(i), leader)
		r.NodeName = strings.Repeat("n", 5000)
		rows = append(rows, r)
	}
	huge := region("huge", leader)
	huge.NodeName = strings.Repeat("n", 2*maxRequest)
	rows = append(rows, huge, region("last", leader))
	var got []*serverpb.RegionInfo
	reqs := requests(rows, 7)
	for _, r := range reqs {
		if n := proto.Size(r); n > maxRequest && len(r.GetMore()) > 0 {
			t.Errorf("a request of %d bytes", n)
		}
		if r.GetTimestamp() != 7 {
			t.Errorf("timestamp %d", r.GetTimestamp())
		}
		got = append(append(got, r.GetRegionInfo()), r.GetMore()...)
	}
	if !slices.Equal(got, rows) {
		t.Errorf("%d of %d rows in requests", len(got), len(rows))
	}
	if len(reqs) != 7 {
		t.Errorf("%d requests", len(reqs))
	}
}
