package fsm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// soon is a context that is done after a while.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A machine can be closed although a reader has stopped reading in the middle of a
// view: every later use of that is an error, and what it was given stays as it was.
func TestViewIsRevoked(t *testing.T) {
	x := newFixture(t)
	for i := range 100 {
		x.apply(write(put(fmt.Sprintf("k%02d", i), "value")))
	}
	view, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	it := view.Iterate(storage.Range{}, start)
	if !it.Next() {
		t.Fatal(it.Err())
	}
	if closed, _ := x.m.TryClose(soon(t)); closed {
		t.Fatal("it closed under a view")
	}
	closed, revoked, err := x.m.TryCloseWithout(soon(t))
	if !closed || revoked != 1 || err != nil {
		t.Fatalf("closed %v, %d views were revoked: %v", closed, revoked, err)
	}
	if p := it.Pair(); string(p.Key) != "k00" || string(p.Value) != "value" {
		t.Errorf("the pair in hand is %q = %q", p.Key, p.Value)
	}
	want := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrRevoked) || !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if it.Next() {
		t.Error("it continues")
	}
	want("Next", it.Err())
	_, err = view.MultiGet([][]byte{[]byte("k00")}, start)
	want("MultiGet", err)
	_, _, err = view.Chunk(nil, 100)
	want("Chunk", err)
	_, err = view.Hash(t.Context())
	want("Hash", err)
	_, err = view.Restoring()
	want("Restoring", err)
	want("Iterate", view.Iterate(storage.Range{}, start).Err())
	if view.Index() != 100 || view.Identity() != x.m.Identity() {
		t.Errorf("it is of %d, %v", view.Index(), view.Identity())
	}
	it.Close()
	view.Close()
	view.Close()
	if closed, revoked, err := x.m.TryCloseWithout(soon(t)); !closed || revoked != 0 || err != nil {
		t.Errorf("again: %v, %d, %v", closed, revoked, err)
	}
}

// slowView is an engine whose views take their time.
type slowView struct {
	storage.Engine
	inside, goOn chan struct{}
}

func (e *slowView) NewView() (storage.View, error) {
	v, err := e.Engine.NewView()
	return &slowReads{v, e}, err
}

type slowReads struct {
	storage.View
	e *slowView
}

func (v *slowReads) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	close(v.e.inside)
	<-v.e.goOn
	return v.View.MultiGet(s, keys)
}

// A read that is inside the engine is waited for.
func TestRevokingWaitsForARead(t *testing.T) {
	e := &slowView{openMemory(t), make(chan struct{}), make(chan struct{})}
	x := &fixture{failer: t, engine: e, clock: start}
	x.m = newMachine(t, e)
	x.apply(write(put("a", "1")))
	view, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		pairs, err := view.MultiGet([][]byte{[]byte("a")}, start)
		if err == nil && len(pairs) != 1 {
			err = fmt.Errorf("%d pairs", len(pairs))
		}
		read <- err
	}()
	<-e.inside
	done := make(chan bool, 1)
	go func() {
		closed, _, _ := x.m.TryCloseWithout(t.Context())
		done <- closed
	}()
	for view.mu.TryRLock() { // until the view is waited for
		view.mu.RUnlock()
		runtime.Gosched()
	}
	select {
	case <-done:
		t.Error("the engine was closed under a read")
	default:
	}
	close(e.goOn)
	if err := <-read; err != nil {
		t.Error(err)
	}
	if !<-done {
		t.Error("it did not close")
	}
	view.Close()
}

// If the machine does not close after all, because something else is inside, what a
// revoked view held is released by its reader.
func TestRevokedInVain(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1")))
	view, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	it := view.Iterate(storage.Range{}, start)
	if !x.m.gate.enter() {
		t.Fatal("the gate is closed")
	}
	giveUp, cancel := context.WithCancel(t.Context())
	cancel()
	if closed, revoked, _ := x.m.TryCloseWithout(giveUp); closed || revoked != 1 {
		t.Fatalf("closed %v, %d views were revoked", closed, revoked)
	}
	it.Close()
	view.Close()
	x.m.gate.leave()
	x.expect("a", []byte("1"))
	if err := x.m.Close(); err != nil {
		t.Fatal(err)
	}
}

// However reads, ends of views and revoking meet, the engine is not used once it is
// closed.
func TestRevokingBesideReaders(t *testing.T) {
	for range 100 {
		g := &guarded{Engine: openMemory(t)}
		x := &fixture{failer: t, engine: g, clock: start}
		x.m = newMachine(t, g)
		x.apply(write(put("a", "1"), put("b", "2")))
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for range 3 {
			wg.Go(func() {
				<-begin
				for readView(t, x.m) == nil {
				}
			})
		}
		wg.Go(func() {
			<-begin
			for closed := false; !closed; {
				var err error
				if closed, _, err = x.m.TryCloseWithout(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		close(begin)
		wg.Wait()
		if n := g.late.Load(); n != 0 {
			t.Fatalf("the engine was used %d times after its Close", n)
		}
	}
}

func readView(t *testing.T, m *Machine) error {
	v, err := m.View()
	if err != nil {
		return closedOnly(t, err)
	}
	defer v.Close()
	it := v.Iterate(storage.Range{}, kv.Clock(0))
	defer it.Close()
	for it.Next() {
	}
	if err := it.Err(); err != nil {
		return closedOnly(t, err)
	}
	return nil
}
