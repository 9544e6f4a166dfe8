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
	reads := newReads(most, most)
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

// reader is a place of a client's, which has room for a response once it has waited.
type reader struct {
	kv.Place
	client kv.Client
	room   *room
}

// room is that of a client that takes none of its responses until it is made to.
type room struct {
	made    chan struct{}
	waiting atomic.Int64
	err     error
}

func (r reader) Client() kv.Client { return r.client }

func (r reader) Crowded() bool {
	if r.room == nil {
		return false
	}
	select {
	case <-r.room.made:
		return false
	default:
		return true
	}
}

func (r reader) AwaitRoom(context.Context) error {
	r.room.waiting.Add(1)
	<-r.room.made
	return r.room.err
}

// What a client asks for whose responses have no room is not read, and keeps others from
// nothing, however much it is.
func TestNothingIsReadForACrowdedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Store{opts: Options{Reads: newReads(1, 1)}}
		c.machine.Store(new(fsm.Machine))
		var read atomic.Int64
		start := func(r *room, conn uint64) <-chan error {
			ctx := context.WithValue(t.Context(), kv.PlaceKey{}, reader{client: kv.Client{Conn: conn}, room: r})
			done := make(chan error, 1)
			go func() {
				_, err := c.With(ctx, func(*fsm.Machine) error { read.Add(1); return nil })
				done <- err
			}()
			return done
		}
		full, refused := &room{made: make(chan struct{})}, &room{made: make(chan struct{}), err: errors.New("full")}
		greedy, rejected := start(full, 1), start(refused, 1)
		synctest.Wait()
		if err := <-start(nil, 2); err != nil || read.Load() != 1 {
			t.Errorf("another client: %v, %d reads", err, read.Load())
		}
		close(full.made)
		close(refused.made)
		if err := <-greedy; err != nil || full.waiting.Load() != 1 {
			t.Errorf("once there is room: %v, %d waited", err, full.waiting.Load())
		}
		if err := <-rejected; !errors.Is(err, refused.err) || read.Load() != 2 {
			t.Errorf("without room: %v, %d reads", err, read.Load())
		}
	})
}

// A client with one read waits for one of another client, however many that has.
func TestReadersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Store{opts: Options{Reads: newReads(1, 1)}}
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

// A long read takes its turn for each of its parts, and one that was given up reads no more.
func TestPartsOfAReadTakeTheirTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := newReads(1, 1)
		if err := reads.parts.Enter(t.Context(), kv.Client{}); err != nil {
			t.Fatal(err)
		}
		v := pinned{reads: reads} // there is nothing that it could read
		ctx, giveUp := context.WithCancel(t.Context())
		part := make(chan error, 1)
		go func() {
			_, _, err := v.ReadSome(ctx, [][]byte{[]byte("k")})
			part <- err
		}()
		synctest.Wait()
		select {
		case err := <-part:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		giveUp()
		if err := <-part; !errors.Is(err, context.Canceled) {
			t.Errorf("waiting: %v", err)
		}
		reads.parts.Leave()
		if _, _, err := v.ReadSome(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("with a place: %v", err)
		}
		if err := reads.parts.Enter(ctx, kv.Client{}); err != nil {
			t.Error("a place is lost")
		}
	})
}

// The parts of large reads, however many there are, leave places to other reads.
func TestLargeReadsLeavePlacesToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const parts = 2
		c := &Store{opts: Options{Reads: newReads(parts+1, parts)}}
		c.machine.Store(new(fsm.Machine))
		gate, done := make(chan struct{}), make(chan error, 100)
		var under atomic.Int64
		for range 50 {
			go func() {
				done <- c.opts.Reads.turn(t.Context(), func() error { under.Add(1); <-gate; return nil })
			}()
		}
		synctest.Wait()
		if n := under.Load(); n != parts {
			t.Errorf("%d parts are read at once", n)
		}
		if _, err := c.With(t.Context(), func(*fsm.Machine) error { return nil }); err != nil {
			t.Error(err)
		}
		close(gate)
		for range 50 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
