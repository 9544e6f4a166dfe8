package state

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Thousands of reads that begin together are under way a few at a time, those of all
// replicas of a process; a reader that gives up waiting has read nothing.
func TestReadsUnderWayAreBounded(t *testing.T) {
	const most, all = 3, 200
	reads := newReads(most)
	replicas := []*Store{{opts: Options{Reads: reads}}, {opts: Options{Reads: reads}}}
	for _, c := range replicas {
		c.machine.Store(new(fsm.Machine))
	}
	var inside, peak, read atomic.Int64
	gate := make(chan struct{})
	var readers sync.WaitGroup
	for i := range all {
		readers.Go(func() {
			_, err := replicas[i%2].With(t.Context(), func(*fsm.Machine) error {
				n := inside.Add(1)
				defer inside.Add(-1)
				for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
				}
				<-gate
				read.Add(1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, "all places are taken", func() bool { return inside.Load() == most })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := replicas[0].With(ctx, func(*fsm.Machine) error { t.Error("it was let in"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that gives up: %v", err)
	}
	close(gate)
	readers.Wait()
	if peak.Load() != most || read.Load() != all {
		t.Errorf("%d were under way at once, and %d have read", peak.Load(), read.Load())
	}
}

// reader is a place of a client's.
type reader struct {
	kv.Place
	client kv.Client
}

func (r reader) Client() kv.Client { return r.client }

// A client with one read waits for one of another client, however many that has.
func TestReadersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Store{opts: Options{Reads: newReads(1)}}
		c.machine.Store(new(fsm.Machine))
		gate, order := make(chan struct{}), make(chan uint64, 100)
		read := func(conn uint64) {
			ctx := context.WithValue(t.Context(), kv.PlaceKey{}, reader{client: kv.Client{Conn: conn}})
			if _, err := c.With(ctx, func(*fsm.Machine) error { <-gate; order <- conn; return nil }); err != nil {
				t.Error(err)
			}
		}
		const greedy, modest = 1, 2
		for range 50 {
			go read(greedy)
		}
		synctest.Wait()
		go read(modest)
		synctest.Wait()
		for range 51 {
			gate <- struct{}{}
		}
		synctest.Wait()
		<-order // was under way
		if first, second := <-order, <-order; first != modest && second != modest {
			t.Error("a client waits until another one has all it asked for")
		}
	})
}
