package replication

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Who has many streams reads seldom with each of them, and holds no one else back.
func TestReadersShareByHostAndConnection(t *testing.T) {
	r := newReaders(2)
	at := func(host string, conn uint64) kv.Client {
		return kv.Client{Host: netip.MustParseAddr(host), Conn: conn}
	}
	greedy, second, lone := at("192.0.2.1", 1), at("192.0.2.1", 2), at("192.0.2.2", 3)
	var leave []func()
	for range 400 {
		leave = append(leave, r.enter(greedy))
	}
	alone := r.pace(greedy)
	if alone != 400*r.every {
		t.Errorf("400 streams read every %v", alone)
	}
	for range 4 {
		leave = append(leave, r.enter(second))
	}
	leave = append(leave, r.enter(lone))
	if got := r.pace(greedy); got != 4*alone {
		t.Errorf("beside another connection and another host they read every %v, want %v", got, 4*alone)
	}
	for _, c := range []kv.Client{second, lone} {
		if got := r.pace(c); got > 2*streamPace {
			t.Errorf("%v reads every %v", c, got)
		}
	}
	// All together they read no more often than the bound has it.
	reads := 400*float64(time.Second)/float64(r.pace(greedy)) + 4*float64(time.Second)/float64(r.pace(second)) + float64(time.Second)/float64(r.pace(lone))
	if most := float64(time.Second) / float64(r.every); reads > 1.01*most {
		t.Errorf("%.0f reads a second, of %.0f", reads, most)
	}
	for _, l := range leave {
		l()
	}
	if len(r.hosts) != 0 {
		t.Errorf("left behind: %v", r.hosts)
	}
}

// However many there are, each reads before its client takes the stream for broken.
func TestReadersNeverPauseLongerThanAHeartbeat(t *testing.T) {
	r := newReaders(2)
	many := kv.Client{Host: netip.MustParseAddr("192.0.2.1")}
	for n := range 1000 {
		many.Conn = uint64(n % 10)
		r.enter(many)
	}
	for n := range 100 {
		r.enter(kv.Client{Host: netip.AddrFrom4([4]byte{192, 0, 3, byte(n)})})
	}
	if got := r.pace(many); got != streamHeartbeat {
		t.Errorf("they read every %v", got)
	}
}

// TestStreamsAreReaders: watches are readers among those of the node, and followers among those of their
// vBucket, while they are open.
func TestStreamsAreReaders(t *testing.T) {
	r := newRig(t)
	last := r.MustPut("a", "1")
	open := func(of *readers) int {
		of.mu.Lock()
		defer of.mu.Unlock()
		return len(of.hosts)
	}
	of := r.service.reading
	ctx, stop := context.WithCancel(testkit.Within(t, patience))
	watch := r.watch(ctx, &serverpb.WatchChangesRequest{FromChangeNumber: 1})
	watch.until(last)
	if open(of.watches) != 1 || open(of.followers[r.Keyspace.All()[0].Name]) != 0 {
		t.Error("a watch does not count as one")
	}
	follower := r.stream(ctx, &serverpb.StreamChangesRequest{FromChangeNumber: 1})
	follower.next()
	if open(of.watches) != 1 || open(of.followers[r.Keyspace.All()[0].Name]) != 1 {
		t.Error("a follower does not count as one of its vBucket's")
	}
	stop()
	testkit.Eventually(t, "both have left", func() bool { return open(of.watches)+open(of.followers[r.Keyspace.All()[0].Name]) == 0 })
}
