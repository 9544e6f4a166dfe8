package enginetest

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// broken is a memory engine with faults switched on.
type broken struct {
	Engine
	faults
	used   atomic.Bool // written to, or loaded into
	mu     sync.Mutex
	cache  map[string][]byte // for sharedMemory
	closed atomic.Bool
}

// faults are ways to get storage.Engine wrong.
type faults struct {
	loadFaults
	losesLastOp        bool // of each batch
	splitsBatches      bool // into single mutations
	reversesBatches    bool // applies the first mutation last
	ignoresEnd         bool // of a range
	includesEnd        bool
	excludesStart      bool
	ignoresReverse     bool
	deletesEnd         bool // of a range delete
	ignoresRangeDelete bool
	mixesSpaces        bool
	liveViews          bool // see later writes
	liveIterators      bool
	nilForEmpty        bool
	sharedMemory       bool // returns its own slices
	sortsMultiGet      bool
	readsAll           bool // that a MultiGet names
	losesLargeValues   bool
	servesWhenClosed   bool
	emptyCheckpoint    bool
	lateCheckpoint     bool // into a directory that exists
	noStats            bool
}

func (b *broken) Write(batch *storage.Batch, sync bool) error {
	b.used.Store(true)
	if b.servesWhenClosed && b.closed.Load() {
		return nil
	}
	if !b.losesLastOp && !b.splitsBatches && !b.reversesBatches && !b.deletesEnd &&
		!b.ignoresRangeDelete && !b.mixesSpaces && !b.losesLargeValues {
		return b.Engine.Write(batch, sync)
	}
	var ops []storage.Op
	_ = batch.Each(func(op storage.Op) error {
		ops = append(ops, op)
		return nil
	})
	if b.losesLastOp && len(ops) > 0 {
		ops = ops[:len(ops)-1]
	}
	var out storage.Batch
	for i := range ops {
		op := ops[i]
		if b.reversesBatches {
			op = ops[len(ops)-1-i]
		}
		b.add(&out, op)
		if b.splitsBatches {
			if err := b.Engine.Write(&out, sync); err != nil {
				return err
			}
			out.Reset()
			runtime.Gosched() // let a reader look
		}
	}
	return b.Engine.Write(&out, sync)
}

func (b *broken) add(out *storage.Batch, op storage.Op) {
	if b.mixesSpaces {
		op.Space = storage.Data
	}
	switch op.Kind {
	case storage.OpPut:
		if b.losesLargeValues && len(op.Value) > 1<<20 {
			op.Value = op.Value[:1<<20]
		}
		out.Put(op.Space, op.Key, op.Value)
	case storage.OpDelete:
		out.Delete(op.Space, op.Key)
	case storage.OpDeleteRange:
		if b.ignoresRangeDelete {
			return
		}
		if b.deletesEnd && bytes.Compare(op.Key, op.Value) < 0 {
			op.Value = append(bytes.Clone(op.Value), 0)
		}
		out.DeleteRange(op.Space, op.Key, op.Value)
	}
}

func (b *broken) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if b.servesWhenClosed && b.closed.Load() {
		return nil, false, nil
	}
	if b.mixesSpaces {
		s = storage.Data
	}
	value, found, err := b.Engine.Get(s, key)
	if b.nilForEmpty && len(value) == 0 {
		value = nil
	}
	if b.sharedMemory && found {
		b.mu.Lock()
		defer b.mu.Unlock()
		id := s.String() + string(key)
		if old := b.cache[id]; len(old) == len(value) {
			return old, true, nil
		}
		b.cache[id] = value
	}
	return value, found, err
}

func (b *broken) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	if b.mixesSpaces {
		s = storage.Data
	}
	values, err := b.Engine.MultiGet(s, keys)
	for err == nil && b.readsAll && len(values) < len(keys) {
		var more [][]byte
		more, err = b.Engine.MultiGet(s, keys[len(values):])
		values = append(values, more...)
	}
	for i := 0; b.sortsMultiGet && i+1 < len(values); i += 2 {
		values[i], values[i+1] = values[i+1], values[i]
	}
	return values, err
}

func (b *broken) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	if b.mixesSpaces {
		s = storage.Data
	}
	switch {
	case b.ignoresEnd:
		r.End = nil
	case b.includesEnd && r.End != nil:
		r.End = append(bytes.Clone(r.End), 0)
	case b.excludesStart && r.Start != nil:
		r.Start = append(bytes.Clone(r.Start), 0)
	}
	if b.ignoresReverse {
		r.Reverse = false
	}
	if b.liveIterators {
		return &liveIterator{Iterator: b.Engine.Iterate(s, r), engine: b.Engine, space: s, rng: r}
	}
	return b.Engine.Iterate(s, r)
}

// liveIterator reads the engine again at each step.
type liveIterator struct {
	storage.Iterator
	engine Engine
	space  storage.Space
	rng    storage.Range
}

func (it *liveIterator) Next() bool {
	ok := it.Iterator.Next()
	if ok && !it.rng.Reverse {
		key := it.Iterator.Key()
		it.rng.Start = append(bytes.Clone(key), 0)
		rest := it.rng
		rest.Start = key
		it.Iterator = it.engine.Iterate(it.space, rest)
		it.Iterator.Next()
	}
	return ok
}

func (b *broken) NewView() (storage.View, error) {
	if b.liveViews {
		return liveView{b.Engine}, nil
	}
	return b.Engine.NewView()
}

type liveView struct{ storage.Reader }

func (liveView) Close() {}

func (b *broken) Checkpoint(dir string) error {
	switch {
	case b.emptyCheckpoint:
		e, err := memory.Open(memory.Options{})
		if err != nil {
			return err
		}
		return e.Checkpoint(dir)
	case b.lateCheckpoint:
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return b.Engine.Checkpoint(dir)
}

func (b *broken) Stats() storage.Stats {
	if b.noStats {
		return storage.Stats{}
	}
	return b.Engine.Stats()
}

func (b *broken) Close() error {
	b.closed.Store(true)
	if b.servesWhenClosed {
		return nil
	}
	return b.Engine.Close()
}

// volatileFactory opens memory engines with faults.
func volatileFactory(f faults) Factory {
	return Factory{
		RandomRuns: 50,
		Open: func(string) (Engine, error) {
			e, err := memory.Open(memory.Options{})
			return &broken{Engine: e, faults: f, cache: map[string][]byte{}}, err
		},
		OpenCheckpoint: openCheckpoint,
	}
}

func openCheckpoint(dir string) (Engine, error) {
	e, err := memory.Open(memory.Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// durable is a memory engine that leaves a checkpoint when it is closed.
type durable struct {
	Engine
	dir  string
	once sync.Once
}

const tableDir = "table"

func (d *durable) Close() (err error) {
	d.once.Do(func() {
		if err = os.RemoveAll(filepath.Join(d.dir, tableDir)); err == nil {
			err = d.Engine.Checkpoint(filepath.Join(d.dir, tableDir))
		}
		_ = d.Engine.Close()
	})
	return err
}

// durableFactory opens engines that outlive Close; load reads what they left.
func durableFactory(load func(dir string) (Engine, error)) Factory {
	return Factory{
		Open: func(dir string) (Engine, error) {
			from := filepath.Join(dir, tableDir)
			if _, err := os.Stat(from); err != nil {
				from = ""
			}
			e, err := load(from)
			if err != nil {
				return nil, err
			}
			return &durable{Engine: e, dir: dir}, nil
		},
		OpenCheckpoint: openCheckpoint,
		RandomRuns:     50,
		Durable:        true,
		Tables:         tableDir + "/*",
	}
}
