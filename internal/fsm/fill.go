package fsm

import "github.com/dkvdb/dkv/internal/storage"

// filler writes the pairs of a state into an empty engine, space by space and in the order of
// their keys, in the fastest way that the engine has. The pairs are durable, and can be read,
// once finish has returned.
type filler struct {
	engine storage.Engine
	// load is nil if the engine has no bulk load, or before the first pair.
	load  storage.Load
	begun bool
	batch storage.Batch
}

// fillStep is how many bytes are written with one batch, since engines limit a batch.
const fillStep = 256 << 10

// put adds a pair. If the engine has a bulk load and the pair is out of order, the error is a
// storage.ErrUnordered.
func (f *filler) put(space storage.Space, key, value []byte) error {
	f.batch.Put(space, key, value)
	if f.batch.Size() < fillStep {
		return nil
	}
	return f.flush()
}

// flush writes the pairs so far.
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

// begin begins a bulk load if the engine has one.
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

// finish makes all pairs durable.
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
