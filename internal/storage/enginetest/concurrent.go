package enginetest

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

func concurrencyChecks() []check {
	return []check{
		{"BatchesAreAtomic", checkAtomic},
		{"ConcurrentWriters", checkWriters},
	}
}

// checkAtomic has readers look at keys that every batch sets alike, in all
// ways of reading: a reader that sees two of them differ has seen half a batch.
func checkAtomic(t T, f Factory) {
	x := open(t, f)
	const keys, rounds = 20, 300
	round := func(i int) error {
		var b storage.Batch
		b.DeleteRange(storage.Data, []byte("k"), []byte("l"))
		for k := range keys {
			b.Put(storage.Data, fmt.Appendf(nil, "k%02d", k), fmt.Append(nil, i))
		}
		b.Put(storage.Meta, []byte("round"), fmt.Append(nil, i))
		return x.engine.Write(&b, i%50 == 0)
	}
	if err := round(0); err != nil {
		t.Fatalf("Write: %v", err)
	}
	errs := make(chan error, 8)
	l := &lookers{errs: errs}
	l.start(func() error { return sameByMultiGet(x.engine, keys) })
	l.start(func() error { return sameByIterator(x.engine, keys) })
	l.start(func() error {
		v, err := x.engine.NewView()
		if err != nil {
			return err
		}
		defer v.Close()
		return errors.Join(sameByMultiGet(v, keys), sameByIterator(v, keys), sameAcrossSpaces(v))
	})
	l.start(neverBackwards(x.engine))
	// Not for ever, if a reader cannot finish a look while there are writes.
	patience := time.Now().Add(testkit.Patience)
	for i := 1; i <= rounds || l.busy.Load() > 0 && time.Now().Before(patience); i++ {
		if err := round(i); err != nil {
			errs <- err
			break
		}
	}
	l.end()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

// lookers are readers, each of which looks again and again until the end, or until it finds
// an error.
type lookers struct {
	errs  chan<- error
	busy  atomic.Int64 // those that have neither looked often enough nor found an error
	done  atomic.Bool
	group sync.WaitGroup
}

func (l *lookers) start(look func() error) {
	const enough = 20
	l.busy.Add(1)
	l.group.Go(func() {
		for n := 1; !l.done.Load(); n++ {
			err := look()
			if n == enough || err != nil && n < enough {
				l.busy.Add(-1)
			}
			if err != nil {
				l.errs <- err
				return
			}
			runtime.Gosched() // a writer's turn, if there is one processor
		}
	})
}

func (l *lookers) end() {
	l.done.Store(true)
	l.group.Wait()
}

func sameByMultiGet(r storage.Reader, keys int) error {
	var ask [][]byte
	for k := range keys {
		ask = append(ask, fmt.Appendf(nil, "k%02d", k))
	}
	got, err := r.MultiGet(storage.Data, ask)
	if err != nil {
		return err
	}
	for i := range got {
		if got[i] == nil || string(got[i]) != string(got[0]) {
			return fmt.Errorf("MultiGet saw half a batch: %q", got)
		}
	}
	return nil
}

func sameByIterator(r storage.Reader, keys int) error {
	it := r.Iterate(storage.Data, storage.Range{})
	defer it.Close()
	first, n := "", 0
	for it.Next() {
		if n == 0 {
			first = string(it.Value())
		}
		if string(it.Value()) != first {
			return fmt.Errorf("iterator saw half a batch: %q and %q", first, it.Value())
		}
		n++
	}
	if it.Err() == nil && n != keys {
		return fmt.Errorf("iterator saw %d keys of %d", n, keys)
	}
	return it.Err()
}

func sameAcrossSpaces(v storage.View) error {
	a, _, err1 := v.Get(storage.Data, []byte("k00"))
	b, _, err2 := v.Get(storage.Meta, []byte("round"))
	if string(a) != string(b) {
		return fmt.Errorf("view saw half a batch: %q and %q", a, b)
	}
	return errors.Join(err1, err2)
}

// neverBackwards reads one key again and again: its rounds only grow.
func neverBackwards(r storage.Reader) func() error {
	last := 0
	return func() error {
		value, found, err := r.Get(storage.Meta, []byte("round"))
		if err != nil || !found {
			return fmt.Errorf("a Get has found=%v, %v", found, err)
		}
		var now int
		if _, err := fmt.Sscan(string(value), &now); err != nil {
			return err
		}
		if now < last {
			return fmt.Errorf("reads went backwards from %d to %d", last, now)
		}
		last = now
		return nil
	}
}

// checkWriters has several writers, though the layers above have one.
func checkWriters(t T, f Factory) {
	x := open(t, f)
	const writers, each = 4, 100
	var group sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		group.Go(func() {
			for i := range each {
				var b storage.Batch
				key := fmt.Appendf(nil, "w%d-%03d", w, i)
				b.Put(storage.Data, key, key)
				b.Put(storage.Data, []byte("shared"), key)
				if err := x.engine.Write(&b, i%25 == 0); err != nil {
					errs <- err
					return
				}
				// One's own write is there at once.
				if got, _, err := x.engine.Get(storage.Data, key); err != nil || string(got) != string(key) {
					errs <- fmt.Errorf("own write of %q reads as %q, %v", key, got, err)
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	if got := len(x.walk(x.engine, storage.Data, storage.Range{})); got != writers*each+1 {
		t.Fatalf("%d keys, want %d", got, writers*each+1)
	}
}
