package fsm

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
)

func TestGateWaitsForThoseInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.init()
		for range 2 {
			if !g.enter() {
				t.Fatal("an open gate rejects a reader")
			}
		}
		closed := atomic.Int32{}
		for range 3 { // every closer waits, not only the first
			go func() {
				g.close()
				closed.Add(1)
			}()
		}
		synctest.Wait()
		if g.enter() {
			t.Error("a closing gate lets in")
		}
		g.leave()
		synctest.Wait()
		if n := closed.Load(); n != 0 {
			t.Fatalf("%d times closed with one inside", n)
		}
		g.leave()
		synctest.Wait()
		if n := closed.Load(); n != 3 {
			t.Fatalf("%d of 3 are done", n)
		}
		if g.enter() {
			t.Error("a closed gate lets in")
		}
		g.close()
	})
}

func TestGateClosesEmpty(t *testing.T) {
	var g gate
	g.init()
	g.close()
	g.close()
	if g.enter() {
		t.Fatal("a closed gate lets in")
	}
}

// A gate that does not become empty in time opens again.
func TestGateGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.init()
		if !g.enter() || !g.open() {
			t.Fatal("an open gate rejects a reader")
		}
		second := func() <-chan struct{} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx.Done()
		}
		begin := time.Now()
		if g.tryClose(second(), nil) || time.Since(begin) != time.Second {
			t.Fatalf("closed after %v with one inside", time.Since(begin))
		}
		if !g.enter() || !g.open() {
			t.Fatal("the gate did not open again")
		}
		g.leave()
		go func() {
			time.Sleep(time.Second / 2)
			g.leave()
		}()
		begin = time.Now()
		if !g.tryClose(second(), nil) || time.Since(begin) != time.Second/2 {
			t.Fatalf("not closed while empty; %v passed", time.Since(begin))
		}
		if g.enter() || g.open() || !g.tryClose(nil, nil) {
			t.Error("a closed gate lets in")
		}
	})
}

// However enter, leave and close meet, no reader is inside once close has returned.
func TestGateUnderContention(t *testing.T) {
	for range 200 {
		var g gate
		g.init()
		var inside atomic.Int32
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-begin
				for g.enter() {
					inside.Add(1)
					inside.Add(-1)
					g.leave()
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				<-begin
				g.close()
				if n := inside.Load(); n != 0 {
					t.Errorf("%d are inside a closed gate", n)
				}
			})
		}
		close(begin)
		wg.Wait()
	}
}

// guarded is an engine that notices when it is used after Close.
type guarded struct {
	storage.Engine
	closed atomic.Bool
	late   atomic.Int32
}

func (g *guarded) note() {
	if g.closed.Load() {
		g.late.Add(1)
	}
}

func (g *guarded) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	g.note()
	defer g.note()
	return g.Engine.Get(s, key)
}

func (g *guarded) NewView() (storage.View, error) {
	g.note()
	defer g.note()
	return g.Engine.NewView()
}

func (g *guarded) Stats() storage.Stats {
	g.note()
	defer g.note()
	return g.Engine.Stats()
}

func (g *guarded) Close() error {
	g.closed.Store(true)
	return g.Engine.Close()
}

func TestReadersBesideClose(t *testing.T) {
	for range 50 {
		g := &guarded{Engine: openMemory(t)}
		x := &fixture{failer: t, engine: g, clock: start}
		x.m = newMachine(t, g)
		x.apply(write(put("a", "1")))
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for range 3 {
			wg.Go(func() {
				<-begin
				for readAll(t, x.m) == nil {
				}
			})
		}
		wg.Go(func() {
			<-begin
			if err := x.m.Close(); err != nil {
				t.Error(err)
			}
		})
		close(begin)
		wg.Wait()
		if n := g.late.Load(); n != 0 {
			t.Fatalf("the engine was used %d times after its Close", n)
		}
	}
}

// readAll reads in every way and returns ErrClosed once the machine is closed.
func readAll(t *testing.T, m *Machine) error {
	m.Stats()
	if _, _, err := m.Get([]byte("a"), 0); err != nil {
		return closedOnly(t, err)
	}
	if _, err := m.Changes(1, 0, 1<<10); err != nil {
		return closedOnly(t, err)
	}
	v, err := m.View()
	if err != nil {
		return closedOnly(t, err)
	}
	defer v.Close()
	it := v.Iterate(storage.Range{}, 0)
	defer it.Close()
	for it.Next() {
	}
	if err := it.Err(); err != nil {
		t.Errorf("an open view failed: %v", err)
	}
	return nil
}

func closedOnly(t *testing.T, err error) error {
	if !errors.Is(err, ErrClosed) {
		t.Errorf("a read beside Close: %v", err)
	}
	return err
}

// A view keeps the engine open, and works, until it is closed itself.
func TestViewKeepsTheEngineOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t)
		x.apply(write(put("a", "1")))
		v, err := x.m.View()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- x.m.Close() }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("closed under a view: %v", err)
		default:
		}
		it := v.Iterate(storage.Range{}, 0)
		if !it.Next() || it.Err() != nil {
			t.Errorf("the view is empty: %v", it.Err())
		}
		it.Close()
		v.Close()
		v.Close()
		synctest.Wait()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
