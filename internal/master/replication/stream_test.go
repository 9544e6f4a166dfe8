package replication

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

// received is a stream of changes as its receiver sees it. It holds the stream to
// what every one has to keep.
type received struct {
	t      testing.TB
	recv   func() (*serverpb.GetChangesResponse, error)
	last   kv.Index // the last change
	upTo   kv.Index // all up to it have come
	quiet  bool     // numbers may be left out
	keys   map[string]string
	counts map[string]int
}

func (r *rig) stream(ctx context.Context, req *serverpb.StreamChangesRequest) *received {
	r.T.Helper()
	s, err := r.Replication.StreamChanges(ctx, req)
	return newReceived(r.T, s, err, req.GetFromChangeNumber())
}

func (r *rig) watch(ctx context.Context, req *serverpb.WatchChangesRequest) *received {
	r.T.Helper()
	s, err := r.Replication.WatchChanges(ctx, req)
	out := newReceived(r.T, s, err, req.GetFromChangeNumber())
	out.quiet = true
	return out
}

func newReceived(t testing.TB, s grpc.ServerStreamingClient[serverpb.GetChangesResponse], err error, from kv.Index) *received {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	from = max(from, 1)
	return &received{t: t, recv: s.Recv, last: from - 1, upTo: from - 1, keys: map[string]string{}, counts: map[string]int{}}
}

// next receives a message.
func (r *received) next() *serverpb.GetChangesResponse {
	r.t.Helper()
	m, err := r.recv()
	if err != nil {
		r.t.Fatal("stream:", err)
	}
	if err := r.take(m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *received) take(m *serverpb.GetChangesResponse) error {
	if size := proto.Size(m); size > 4<<20 {
		return fmt.Errorf("a message of %d bytes", size)
	}
	if int(m.GetNumberOfChanges()) != len(m.GetChanges()) || m.GetHistoryId() == "" || m.GetClusterId() == "" {
		return fmt.Errorf("message %v", m)
	}
	for _, c := range m.GetChanges() {
		if c.GetChangeNumber() <= r.last || !r.quiet && c.GetChangeNumber() != r.last+1 {
			return fmt.Errorf("change %d behind %d", c.GetChangeNumber(), r.last)
		}
		r.last, r.upTo = c.GetChangeNumber(), c.GetChangeNumber()
		if int(c.GetNumberOfTrxns()) != len(c.GetTrxns()) || len(c.GetTrxns()) == 0 {
			return fmt.Errorf("change %v", c)
		}
		for _, x := range c.GetTrxns() {
			r.counts[string(x.GetKey())]++
			r.keys[string(x.GetKey())] = string(x.GetValue())
			if x.GetType() == serverpb.TrxnRecord_Delete {
				delete(r.keys, string(x.GetKey()))
			}
		}
	}
	if len(m.GetChanges()) == 0 {
		r.upTo = max(r.upTo, m.GetMasterChangeNumber())
	}
	if m.GetMasterChangeNumber() < r.last {
		return fmt.Errorf("change %d of %d", r.last, m.GetMasterChangeNumber())
	}
	return nil
}

// until receives until all up to a number is there.
func (r *received) until(index kv.Index) {
	r.t.Helper()
	for r.upTo < index {
		r.next()
	}
}

// fails receives until the stream fails.
func (r *received) fails() error {
	for {
		m, err := r.recv()
		if err != nil {
			return err
		}
		if err := r.take(m); err != nil {
			r.t.Error(err)
		}
	}
}

func TestStreamChanges(t *testing.T) {
	r := newRig(t)
	history, cluster := r.Local.Status().Identity.History, r.Local.Status().Identity.Cluster
	s := r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{HistoryId: history})
	first := s.next() // at once, that the receiver knows where it is
	want := &serverpb.GetChangesResponse{Status: &serverpb.Status{}, HistoryId: history, ClusterId: cluster}
	if !proto.Equal(first, want) {
		t.Errorf("the first message is %v, want %v", first, want)
	}
	r.MustPut("a", "1", mastertest.Epoch+10)
	m := s.next()
	for len(m.GetChanges()) == 0 { // heartbeats
		m = s.next()
	}
	want.MasterChangeNumber, want.NumberOfChanges, want.MasterClock = 1, 1, mastertest.Epoch*1000
	want.Changes = []*serverpb.ChangeRecord{{
		ChangeNumber: 1, NumberOfTrxns: 1, Clock: mastertest.Epoch * 1000,
		Trxns: []*serverpb.TrxnRecord{{Type: serverpb.TrxnRecord_Put, Key: []byte("a"), Value: []byte("1"), ExpireTS: mastertest.Epoch + 10}},
	}}
	if !proto.Equal(m, want) {
		t.Errorf("the change is %v, want %v", m, want)
	}
	if _, err := r.Delete(t.Context(), &serverpb.DeleteRequest{Key: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	s.until(2)
	if len(s.keys) != 0 {
		t.Errorf("keys %v", s.keys)
	}
	// What has no effect is told of all the same, and one heartbeat follows another.
	for range 3 {
		if _, err := r.CompareAndSet(t.Context(), &serverpb.CompareAndSetRequest{Key: []byte("a"), OldValue: []byte("x"), NewValue: []byte("y")}); err != nil {
			t.Fatal(err)
		}
	}
	s.until(5)
	for range 3 {
		if m := s.next(); m.GetMasterChangeNumber() != 5 || len(m.GetChanges()) != 0 {
			t.Errorf("a heartbeat of %v", m)
		}
	}
	// Those that begin somewhere else.
	for from := range kv.Index(7) {
		s := r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{FromChangeNumber: from})
		if s.until(5); len(s.counts) != 0 && from > 2 || s.counts["a"] != max(0, 3-max(int(from), 1)) {
			t.Errorf("from %d: %v", from, s.counts)
		}
	}
}

func TestStreamChangesRefuses(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	history := r.Local.Status().Identity.History
	ahead := "change 3 is asked for, and the newest here is 1: the slave is ahead of this node; ask another one"
	other := fmt.Sprintf("the change number belongs to history other, and the history here is %s; ask another node, or start over from a snapshot", history)
	for _, c := range []struct {
		req  *serverpb.StreamChangesRequest
		code codes.Code
		text string
	}{
		{&serverpb.StreamChangesRequest{FromChangeNumber: 3}, codes.FailedPrecondition, ahead},
		{&serverpb.StreamChangesRequest{FromChangeNumber: 3, HistoryId: history}, codes.FailedPrecondition, ahead},
		{&serverpb.StreamChangesRequest{FromChangeNumber: 9, HistoryId: "other"}, codes.FailedPrecondition, other},
		{&serverpb.StreamChangesRequest{VBucket: "other"}, codes.NotFound, `this node has no vBucket "other"; it has [default]`},
	} {
		mastertest.WantStatus(t, r.stream(testkit.Within(t, patience), c.req).fails(), c.code, c.text)
		watch := &serverpb.WatchChangesRequest{FromChangeNumber: c.req.FromChangeNumber, VBucket: c.req.VBucket, HistoryId: c.req.HistoryId}
		mastertest.WantStatus(t, r.watch(testkit.Within(t, patience), watch).fails(), c.code, c.text)
	}
	r.MustBackup("b1")
	r.MustRestore("b1")
	for _, from := range []kv.Index{0, 1, 2} {
		s := r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{FromChangeNumber: from})
		mastertest.WantStatus(t, s.fails(), codes.OutOfRange,
			fmt.Sprintf("change %d is no longer retained: the oldest is 3; start over from a snapshot", max(from, 1)))
	}
	now := r.Local.Status().Identity.History
	s := r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{FromChangeNumber: 1, HistoryId: history})
	mastertest.WantStatus(t, s.fails(), codes.FailedPrecondition, fmt.Sprintf(
		"the change number belongs to history %s, and the history here is %s; ask another node, or start over from a snapshot", history, now))
}

// TestStreamUnderWrites: no stream lacks a change or has one twice, wherever and
// whenever it begins, and each leads to the keyspace that there is.
func TestStreamUnderWrites(t *testing.T) {
	r := newRig(t)
	const writers, each = 4, 400
	ctx := testkit.Within(t, testkit.Patience)
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				if _, err := r.Put(ctx, mastertest.PutOf(fmt.Sprintf("%d/%d", w, i%50), fmt.Sprint(i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	results := make([]*received, 6)
	for n := range results {
		from := kv.Index(n * 100)
		if err := r.Local.AwaitApplied(ctx, from); err != nil {
			t.Fatal(err)
		}
		s := r.stream(ctx, &serverpb.StreamChangesRequest{FromChangeNumber: from})
		results[n] = s
		reading.Go(func() {
			for s.upTo < writers*each {
				m, err := s.recv()
				if err == nil {
					err = s.take(m)
				}
				if err != nil {
					t.Error(n, err)
					return
				}
			}
		})
	}
	writing.Wait()
	reading.Wait()
	for n, s := range results {
		for key, value := range s.keys {
			if value != fmt.Sprint(each-50+atoi(key[2:])) {
				t.Errorf("stream %d has %s=%s", n, key, value)
			}
		}
		if len(s.keys) != writers*50 {
			t.Errorf("stream %d leads to %d keys", n, len(s.keys))
		}
	}
}

func atoi(s string) (n int) {
	fmt.Sscan(s, &n)
	return n
}

func TestStreamEndsWithItsHistory(t *testing.T) {
	r := newRig(t)
	index := r.MustPut("a", "1")
	r.MustBackup("b1")
	s := r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{})
	w := r.watch(testkit.Within(t, patience), &serverpb.WatchChangesRequest{FromChangeNumber: 1})
	s.until(index)
	w.until(index)
	before := r.Local.Status().Identity.History
	r.MustRestore("b1")
	want := fmt.Sprintf("the change number belongs to history %s, and the history here is %s; ask another node, or start over from a snapshot",
		before, r.Local.Status().Identity.History)
	mastertest.WantStatus(t, s.fails(), codes.FailedPrecondition, want)
	mastertest.WantStatus(t, w.fails(), codes.FailedPrecondition, want)
}

// TestStreamsEndWithTheServer: a server that stops does not wait for those who
// follow it, and sends them on.
func TestStreamsEndWithTheServer(t *testing.T) {
	c := newCluster(t, 1, 1, func(c *mastertest.Cluster) { c.Drain = patience })
	n := c.Nodes[0]
	s, err := n.Replication.StreamChanges(testkit.Within(t, patience), &serverpb.StreamChangesRequest{})
	r := newReceived(t, s, err, 0)
	r.next()
	n.Kill()
	mastertest.WantStatus(t, r.fails(), codes.Unavailable, "the node is shutting down")
}

// counted counts what is read of a changelog.
type counted struct {
	replica.Replica
	bytes atomic.Int64
}

func (c *counted) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	out, err := c.Replica.Changes(ctx, from, limit, maxBytes)
	for i := range out.Changes {
		for j := range out.Changes[i].Mutations {
			c.bytes.Add(int64(len(out.Changes[i].Mutations[j].Value)))
		}
	}
	return out, err
}

// TestSlowReceiver: a receiver that does not read costs the memory of a few messages, however
// much there is to send, and delays no other.
func TestSlowReceiver(t *testing.T) {
	const value, n = 256 << 10, 160
	r := newRig(t, func(l *master.Limits) { l.Value, l.Batch = value, 2*value })
	reads := &counted{Replica: r.Local}
	r.Keyspace.All()[0].Replica = reads
	last := kv.Index(0)
	for range n {
		last = r.MustPut("a", strings.Repeat("v", value))
	}
	s := r.stream(testkit.Within(t, testkit.Patience), &serverpb.StreamChangesRequest{})
	s.next()
	for i := range 300 { // and others are served meanwhile
		r.MustPut("b", fmt.Sprint(i))
	}
	if got := reads.bytes.Load(); got > n*value/2 {
		t.Errorf("%d of %d bytes were read for one who took a message", got, n*value)
	}
	if s.until(last + 300); s.keys["b"] != "299" {
		t.Errorf("it came to b=%s", s.keys["b"])
	}
}
