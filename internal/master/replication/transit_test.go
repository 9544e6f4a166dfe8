package replication

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestShare counts a message until the one behind it has left, and nothing twice.
func TestShare(t *testing.T) {
	var all transit
	s := share{of: &all}
	want := func(n int64) {
		t.Helper()
		if got := all.taken.Load(); got != n {
			t.Errorf("%d bytes are taken, want %d", got, n)
		}
	}
	if got := s.take(1000); got != 1000 {
		t.Errorf("a message may have %d bytes", got)
	}
	want(1000)
	s.take(1000) // nothing was made of the first
	want(1000)
	s.holds(1500)
	s.left()
	want(1500)
	s.take(1000)
	want(2500)
	s.holds(10)
	s.left()
	want(10)
	all.taken.Add(transitBytes)
	if got := s.take(1 << 20); got != tightBytes {
		t.Errorf("where much is taken, a message may have %d bytes", got)
	}
	s.holds(7)
	s.end()
	want(transitBytes)
	if got := new(share).take(5); got != 5 {
		t.Errorf("without a bound a message may have %d bytes", got)
	}
}

// TestStreamsAreSmallWhereMuchIsTaken: when slow streams have used up the memory, another stream
// continues in small messages. It releases what it takes.
func TestStreamsAreSmallWhereMuchIsTaken(t *testing.T) {
	r := newRig(t)
	last := kv.Index(0)
	for i := range 2000 {
		last = r.MustPut("a", fmt.Sprint(i, strings.Repeat("v", 900)))
	}
	largest := func() int {
		ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
		defer stop()
		s, size := r.stream(ctx, &serverpb.StreamChangesRequest{}), 0
		for s.upTo < last {
			size = max(size, proto.Size(s.next()))
		}
		return size
	}
	if size := largest(); size > changelog.StreamBytes || size < changelog.StreamBytes/2 {
		t.Errorf("messages have up to %d bytes", size)
	}
	testkit.Eventually(t, "all is given back", func() bool { return r.service.transit.taken.Load() == 0 })
	r.service.transit.taken.Store(transitBytes)
	if size := largest(); size > tightBytes {
		t.Errorf("where there is no room, messages have up to %d bytes", size)
	}
	testkit.Eventually(t, "all is given back", func() bool { return r.service.transit.taken.Load() == transitBytes })
}

// watched tells when what was read of a changelog is garbage.
type watched struct {
	replica.Replica
	mu    sync.Mutex
	bytes int
	reads []weak.Pointer[byte]
}

func (w *watched) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	out, err := w.Replica.Changes(ctx, from, limit, maxBytes)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range out.Changes {
		value := out.Changes[i].Mutations[0].Value
		w.bytes += len(value)
		w.reads = append(w.reads, weak.Make(&value[0]))
	}
	return out, err
}

// held counts the changes that are not garbage, of those that were read.
func (w *watched) held() (held, bytes int) {
	runtime.GC()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.reads {
		if p.Value() != nil {
			held++
		}
	}
	return held, w.bytes
}

// TestStalledStreamHoldsNoRecords: while a receiver does not read, nothing is kept
// of what the message was made from.
func TestStalledStreamHoldsNoRecords(t *testing.T) {
	const value, n = 128 << 10, 100
	r := newRig(t, func(l *master.Limits) { l.Value, l.Batch, l.Response = value, 2*value, 4*value })
	reads := &watched{Replica: r.Local}
	r.Keyspace.All()[0].Replica = reads
	for range n {
		r.MustPut("a", strings.Repeat("v", value))
	}
	s := r.stream(testkit.Within(t, time.Minute), &serverpb.StreamChangesRequest{})
	s.next()
	// More than what is on the line: the next message waits.
	testkit.Eventually(t, "the records are let go", func() bool {
		held, bytes := reads.held()
		return held == 0 && bytes > 2*changelog.StreamBytes
	})
	if _, bytes := reads.held(); bytes > n*value/2 {
		t.Errorf("%d of %d bytes were read for one who took a message", bytes, n*value)
	}
	if taken := r.service.transit.taken.Load(); taken == 0 || taken > 3*changelog.StreamBytes {
		t.Errorf("%d bytes are taken for it", taken)
	}
}
