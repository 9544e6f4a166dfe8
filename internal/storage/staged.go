package storage

// StagedWriter is an Engine whose Write has limits, and which can write more than
// one batch as if it were one.
type StagedWriter interface {
	// BeginStaged begins such a write. Until it is committed or abandoned nothing
	// else may be written.
	BeginStaged() (Staged, error)
}

// Staged is a write in several batches. Readers of the engine see none of them until
// Commit has returned, and all of them from then on; so does an engine that is
// opened after a crash. It is not safe for concurrent use.
type Staged interface {
	// Write adds a batch, to which the limits of Engine.Write apply.
	Write(b *Batch) error
	// MultiGet is that of Reader, with the batches so far.
	MultiGet(s Space, keys [][]byte) ([][]byte, error)
	// Commit adds the last batch and makes all of them visible and durable.
	Commit(b *Batch) error
	// Abandon undoes every batch. After Commit it does nothing.
	Abandon() error
}
