package chunks

import "github.com/dkvdb/dkv/internal/storage"

// Filler writes the pairs of a state into an empty engine, space by space and in the order of
// their keys, in the fastest way that the engine has. The pairs are durable, and can be read,
// once Finish has returned.
type Filler struct {
	engine storage.Engine
	// load is nil if the engine has no bulk load, or before the first pair.
	load  storage.Load
	begun bool
	batch storage.Batch
}

// NewFiller returns a filler of an engine, which the caller still has to close.
func NewFiller(engine storage.Engine) *Filler { return &Filler{engine: engine} }

// FillStep is how many bytes are written with one batch, since engines limit a batch.
const FillStep = 256 << 10

// Put adds a pair. If the engine has a bulk load and the pair is out of order, the error is a
// storage.ErrUnordered.
func (f *Filler) Put(space storage.Space, key, value []byte) error {
	f.batch.Put(space, key, value)
	if f.batch.Size() < FillStep {
		return nil
	}
	return f.flush()
}

// flush writes the pairs so far.
func (f *Filler) flush() error {
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
func (f *Filler) begin() error {
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

// Finish makes all pairs durable.
func (f *Filler) Finish() error {
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
