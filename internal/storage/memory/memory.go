// Package memory is a storage engine that keeps everything in ordered maps. It
// is the model that the other engines are compared with, and the fake that
// other packages test on: simple and obviously right before it is fast.
//
// The whole engine is one immutable state, a copy-on-write B-tree per space.
// A write makes the next state aside and publishes it with one atomic store, so
// that a view is nothing but a pointer to the state of its time, and readers
// never wait.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/google/btree"

	"github.com/dkvdb/dkv/internal/storage"
)

// Kind is what the engine calls itself.
const Kind = "memory"

// degree is the B-tree's fan-out.
const degree = 32

// Options say how to open an engine. The zero value is an empty engine.
type Options struct {
	// Dir is a directory that Checkpoint wrote, from which the first state is
	// read; "" starts empty. Nothing is ever written back to it.
	Dir string
	// OnWrite is called with each batch before it is applied. An error fails
	// the write, and the batch is not applied. The batch must not be kept.
	OnWrite func(*storage.Batch) error
	// OnSync is called by Sync and by each synced write, after OnWrite and
	// before the batch becomes visible. An error fails the call.
	OnSync func() error
	// Logger is accepted for the sake of uniformity; the engine has nothing to
	// say.
	Logger *slog.Logger
}

// Engine is a storage.Engine in memory. It loses everything when it is closed.
type Engine struct {
	opts   Options
	mu     sync.Mutex // held by writers
	state  atomic.Pointer[state]
	closed atomic.Bool
}

var _ storage.Engine = (*Engine)(nil)

// Open returns an engine that holds what opts.Dir holds, or nothing. It returns
// storage.ErrCorrupt for a checkpoint that fails its checksum.
func Open(opts Options) (*Engine, error) {
	e := &Engine{opts: opts}
	s := newState()
	if opts.Dir != "" {
		var err error
		if s, err = readCheckpoint(opts.Dir); err != nil {
			return nil, fmt.Errorf("open memory engine: %w", err)
		}
	}
	e.state.Store(s)
	return e, nil
}

// Kind returns "memory".
func (e *Engine) Kind() string { return Kind }

// Get implements storage.Reader.
func (e *Engine) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if e.closed.Load() {
		return nil, false, storage.ErrClosed
	}
	value, found := e.state.Load().get(s, key)
	return value, found, nil
}

// MultiGet implements storage.Reader.
func (e *Engine) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	if e.closed.Load() {
		return nil, storage.ErrClosed
	}
	return e.state.Load().multiGet(s, keys), nil
}

// Iterate implements storage.Reader.
func (e *Engine) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	return newIterator(&e.closed, e.state.Load(), s, r)
}

// NewView implements storage.Engine.
func (e *Engine) NewView() (storage.View, error) {
	if e.closed.Load() {
		return nil, storage.ErrClosed
	}
	return &view{closed: &e.closed, state: e.state.Load()}, nil
}

// Write implements storage.Engine. Batches may be of any size.
func (e *Engine) Write(b *storage.Batch, sync bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		return storage.ErrClosed
	}
	if e.opts.OnWrite != nil {
		if err := e.opts.OnWrite(b); err != nil {
			return fmt.Errorf("memory engine: write: %w", err)
		}
	}
	next, err := e.state.Load().with(b)
	if err != nil {
		return fmt.Errorf("memory engine: write: %w", err)
	}
	if sync {
		if err := e.sync(); err != nil {
			return err
		}
	}
	e.state.Store(next)
	return nil
}

// Sync implements storage.Engine. There is nothing to make durable.
func (e *Engine) Sync() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		return storage.ErrClosed
	}
	return e.sync()
}

func (e *Engine) sync() error {
	if e.opts.OnSync == nil {
		return nil
	}
	if err := e.opts.OnSync(); err != nil {
		return fmt.Errorf("memory engine: sync: %w", err)
	}
	return nil
}

// Checkpoint implements storage.Engine: it writes the state into one file, see
// checkpointName.
func (e *Engine) Checkpoint(dir string) error {
	if e.closed.Load() {
		return storage.ErrClosed
	}
	return writeCheckpoint(dir, e.state.Load())
}

// Verify implements storage.Engine; there are no files to read.
func (e *Engine) Verify(ctx context.Context) error {
	if e.closed.Load() {
		return storage.ErrClosed
	}
	return ctx.Err()
}

// Compact does nothing: there is nothing to reclaim.
func (e *Engine) Compact() error {
	if e.closed.Load() {
		return storage.ErrClosed
	}
	return nil
}

// Stats reports the bytes of keys and values as MemtableBytes.
func (e *Engine) Stats() storage.Stats {
	if e.closed.Load() {
		return storage.Stats{}
	}
	s := e.state.Load()
	return storage.Stats{
		MemtableBytes: uint64(s.bytes),
		EstimatedKeys: uint64(s.trees[storage.Data].Len()),
	}
}

// Close implements storage.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed.Store(true)
	return nil
}

type pair struct{ key, value []byte }

func less(a, b pair) bool { return bytes.Compare(a.key, b.key) < 0 }

// state is one state of the engine. It never changes once it is published.
type state struct {
	trees [storage.Spaces]*btree.BTreeG[pair]
	bytes int
}

func newState() *state {
	s := &state{}
	for i := range s.trees {
		s.trees[i] = btree.NewG(degree, less)
	}
	return s
}

func (s *state) get(space storage.Space, key []byte) ([]byte, bool) {
	p, found := s.trees[space].Get(pair{key: key})
	if !found {
		return nil, false
	}
	return copyOf(p.value), true
}

func (s *state) multiGet(space storage.Space, keys [][]byte) [][]byte {
	values := make([][]byte, len(keys))
	size := 0
	for i, key := range keys {
		values[i], _ = s.get(space, key)
		if size += len(values[i]); size > storage.MultiGetBytes {
			return values[:i+1]
		}
	}
	return values
}

// with returns the state that b leads to. Trees that b does not touch are
// shared; the others are cloned, which copies only the nodes that change. Only
// the holder of the engine's lock may call it.
func (s *state) with(b *storage.Batch) (*state, error) {
	next := &state{trees: s.trees, bytes: s.bytes}
	var cloned [storage.Spaces]bool
	err := b.Each(func(op storage.Op) error {
		if !cloned[op.Space] {
			next.trees[op.Space] = s.trees[op.Space].Clone()
			cloned[op.Space] = true
		}
		next.apply(op)
		return nil
	})
	return next, err
}

func (s *state) apply(op storage.Op) {
	t := s.trees[op.Space]
	switch op.Kind {
	case storage.OpPut:
		p := pair{key: copyOf(op.Key), value: copyOf(op.Value)}
		old, replaced := t.ReplaceOrInsert(p)
		s.account(p, 1)
		if replaced {
			s.account(old, -1)
		}
	case storage.OpDelete:
		if old, found := t.Delete(pair{key: op.Key}); found {
			s.account(old, -1)
		}
	case storage.OpDeleteRange:
		var doomed []pair
		t.AscendRange(pair{key: op.Key}, pair{key: op.Value}, func(p pair) bool {
			doomed = append(doomed, p)
			return true
		})
		for _, p := range doomed {
			t.Delete(p)
			s.account(p, -1)
		}
	}
}

func (s *state) account(p pair, sign int) { s.bytes += sign * (len(p.key) + len(p.value)) }

// copyOf returns a copy that is never nil.
func copyOf(p []byte) []byte { return append(make([]byte, 0, len(p)), p...) }
