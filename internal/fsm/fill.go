package fsm

import "github.com/dkvdb/dkv/internal/storage"

// filler puts the pairs of a state into an empty engine, space by space and in
// the order of their keys, in the fastest way that the engine has. What it has
// put is durable, and can be read, once finish has returned.
type filler struct {
	engine storage.Engine
	// load is nil where the engine has no bulk load, or nothing was put yet.
	load  storage.Load
	begun bool
	batch storage.Batch
}

// fillStep is how many bytes are put with one batch: engines bound what they
// write atomically.
const fillStep = 256 << 10

// put adds a pair. An engine that has a bulk load answers pairs that are out of
// order with a storage.ErrUnordered.
func (f *filler) put(space storage.Space, key, value []byte) error {
	f.batch.Put(space, key, value)
	if f.batch.Size() < fillStep {
		return nil
	}
	return f.flush()
}

// flush hands the pairs so far to the engine.
func (f *filler) flush() error {
	if f.batch.Count() == 0 {
		return nil
	}
	defer f.batch.Reset()
	if err := f.begin(); err != nil {
		return err
	}
	if f.load != nil {
		return f.load.Add(&f.batch)
	}
	return f.engine.Write(&f.batch, false)
}

// begin settles on the way.
func (f *filler) begin() error {
	if f.begun {
		return nil
	}
	f.begun = true
	bulk, ok := f.engine.(storage.BulkLoader)
	if !ok {
		return nil
	}
	var err error
	f.load, err = bulk.BeginLoad()
	return err
}

// finish makes all that was put durable.
func (f *filler) finish() error {
	if err := f.flush(); err != nil {
		return err
	}
	if f.load == nil {
		return f.engine.Sync()
	}
	load := f.load
	f.load = nil
	return load.Finish()
}
