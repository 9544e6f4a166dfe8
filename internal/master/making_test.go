package master

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/local"
)

// stalledStream sends nothing before its reader wants it.
type stalledStream struct {
	grpc.ServerStreamingServer[serverpb.IterateResponse]
	ctx    context.Context
	wanted chan struct{}
	sent   *atomic.Int64
}

func (s stalledStream) Context() context.Context { return s.ctx }

func (s stalledStream) Send(*serverpb.IterateResponse) error {
	<-s.wanted
	s.sent.Add(1)
	return nil
}

// slowPairs are one pair, which storage takes its time for.
type slowPairs struct {
	ready        chan struct{}
	inside, most *atomic.Int64
	read         bool
}

func (p *slowPairs) Next() bool {
	if p.read {
		return false
	}
	p.read = true
	n := p.inside.Add(1)
	for m := p.most.Load(); n > m && !p.most.CompareAndSwap(m, n); m = p.most.Load() {
	}
	<-p.ready
	p.inside.Add(-1)
	return true
}

func (p *slowPairs) Pair() kv.Pair { return kv.Pair{Key: []byte("k")} }

func (p *slowPairs) Err() error { return nil }

// A few iterations make their messages at once, and those whose readers stall are not
// among them.
func TestMessagesBeingMadeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places, streams = 3, 50
		gate := fair.New(places)
		var inside, most, sent atomic.Int64
		ready, wanted := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		for i := range streams {
			all.Go(func() {
				send := sendSingly
				if i%2 == 0 {
					send = sendBatched
				}
				stream := stalledStream{ctx: t.Context(), wanted: wanted, sent: &sent}
				err := bounded(gate, stream, &slowPairs{ready: ready, inside: &inside, most: &most}, &serverpb.IterateRequest{}, &walk{}, send)
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(ready)
		synctest.Wait() // all stall, and have made their messages
		if inside.Load() != 0 || most.Load() != places || sent.Load() != 0 {
			t.Errorf("%d make a message, at most %d did, %d are sent", inside.Load(), most.Load(), sent.Load())
		}
		close(wanted)
		all.Wait()
		if sent.Load() != streams {
			t.Errorf("%d messages are sent", sent.Load())
		}
		for range places { // all are free again
			if err := gate.Enter(t.Context(), kv.Client{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// An iteration whose client leaves while it waits ends with the reason.
func TestWaitingToMakeAMessageEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stream := stalledStream{ctx: ctx}
	err := bounded(fair.New(0), stream, &slowPairs{}, &serverpb.IterateRequest{}, &walk{}, sendSingly)
	if !errors.Is(err, context.Canceled) || kv.KindOf(err) != kv.Unavailable {
		t.Errorf("error %v", err)
	}
}

// holding is a place that notes what a stream holds.
type holding struct {
	kv.Place
	bytes int64
}

func (p *holding) Holds(bytes int64)          { p.bytes = bytes }
func (p *holding) Resumable(func() kv.Resume) {}

// sending notes what is held with each message.
type sending struct {
	grpc.ServerStreamingServer[serverpb.IterateResponse]
	ctx  context.Context
	note func(*serverpb.IterateResponse)
}

func (s sending) Context() context.Context { return s.ctx }

func (s sending) Send(m *serverpb.IterateResponse) error {
	s.note(m)
	return nil
}

// A small batch is sent when a large pair does not fit into it, which is in memory by then.
func TestIterationSaysWhatItHolds(t *testing.T) {
	r := newRig(t, func(_ *local.Options, l *Limits) { l.Value, l.Batch, l.Response = 2<<20, 3<<20, 4<<20 })
	r.MustPut("a", "small")
	r.MustPut("b", strings.Repeat("v", 1<<20))
	r.MustPut("c", "small")
	p := &holding{Place: kv.PlaceOf(t.Context())}
	var held []int64
	stream := sending{ctx: context.WithValue(t.Context(), kv.PlaceKey{}, p), note: func(*serverpb.IterateResponse) { held = append(held, p.bytes>>20) }}
	if err := NewKV(r.Keyspace, limits, nil).Iterate(&serverpb.IterateRequest{Batched: true}, stream); err != nil {
		t.Fatal(err)
	}
	if want := []int64{2, 2, 0}; !slices.Equal(held, want) {
		t.Errorf("held with each message: %v MiB, want %v", held, want)
	}
}

// Few processors make few messages at once, and many do not make more than memory has room for.
func TestMessagesAtOnceScaleWithProcessors(t *testing.T) {
	for processors, want := range map[int]int{2: 8, 8: 32, 64: 32} {
		gate := newMaking(processors)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range want {
			if err := gate.Enter(ctx, kv.Client{}); err != nil {
				t.Errorf("%d processors: %v", processors, err)
			}
		}
		if gate.Enter(ctx, kv.Client{}) == nil {
			t.Errorf("%d processors make more than %d", processors, want)
		}
	}
}
