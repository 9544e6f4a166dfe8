// Package fsmtest is what the tests of the state machine and of its packages share: engines
// that fail, what an engine holds, and commands.
package fsmtest

import (
	"errors"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// T is what the checks need of a test, be it testing's or rapid's.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// OpenMemory opens an empty engine.
func OpenMemory(t T) storage.Engine {
	t.Helper()
	e, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatalf("open memory engine: %v", err)
	}
	return e
}

// ErrInjected is the error of the engines that fail.
var ErrInjected = errors.New("injected")

// Faulty fails one call of a kind, counted from 1. A failing write may have
// landed all the same: storage does not promise otherwise.
type Faulty struct {
	storage.Engine
	FailWrite, FailMultiGet, FailSync int
	Landed                            bool
}

// Fails counts n down, and reports whether it has reached 0.
func Fails(n *int) bool {
	if *n > 0 {
		*n--
		return *n == 0
	}
	return false
}

func (f *Faulty) Write(b *storage.Batch, sync bool) error {
	if !Fails(&f.FailWrite) {
		return f.Engine.Write(b, sync)
	}
	if f.Landed {
		if err := f.Engine.Write(b, sync); err != nil {
			return err
		}
	}
	return ErrInjected
}

func (f *Faulty) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	if Fails(&f.FailMultiGet) {
		return nil, ErrInjected
	}
	return f.Engine.MultiGet(s, keys)
}

func (f *Faulty) Sync() error {
	if Fails(&f.FailSync) {
		return ErrInjected
	}
	return f.Engine.Sync()
}

// Bulky is an engine that has a bulk load, which it counts and can fail, and which
// keeps what it is given until its end.
type Bulky struct {
	storage.Engine
	FailBegin, FailAdd, FailFinish int
	Adds, Finished, Writes         int
	pending                        []storage.Batch
	order                          storage.LoadOrder
}

// OpenBulky opens an empty engine that has a bulk load.
func OpenBulky(t T) *Bulky { return &Bulky{Engine: OpenMemory(t)} }

// BeginLoad implements storage.BulkLoader.
func (b *Bulky) BeginLoad() (storage.Load, error) {
	if Fails(&b.FailBegin) {
		return nil, ErrInjected
	}
	return (*bulkyLoad)(b), nil
}

func (b *Bulky) Write(batch *storage.Batch, sync bool) error {
	b.Writes++
	return b.Engine.Write(batch, sync)
}

type bulkyLoad Bulky

func (l *bulkyLoad) Add(b *storage.Batch) error {
	if Fails(&l.FailAdd) {
		return ErrInjected
	}
	if err := l.order.Check(b); err != nil {
		return err
	}
	l.Adds++
	var kept storage.Batch
	l.pending = append(l.pending, kept)
	return b.Each(func(op storage.Op) error {
		l.pending[len(l.pending)-1].Put(op.Space, op.Key, op.Value)
		return nil
	})
}

func (l *bulkyLoad) Finish() error {
	if Fails(&l.FailFinish) {
		return ErrInjected
	}
	l.Finished++
	for i := range l.pending {
		if err := l.Engine.Write(&l.pending[i], false); err != nil {
			return err
		}
	}
	return l.Engine.Sync()
}
