package storage

// BulkLoader is an Engine that can be filled with sorted pairs faster than Write
// could do it: straight into sorted files, past log and memtables.
type BulkLoader interface {
	// BeginLoad begins to fill the engine. It returns ErrNotEmpty if anything was
	// written to it before. Until the load is finished, the engine may only be
	// closed.
	BeginLoad() (Load, error)
}

// Load fills an empty engine. All that was added is there once Finish has
// returned, and nothing can be relied on before: after a crash in the middle the
// folder must be deleted. The same holds after an error, which ends the load.
// Closing the engine ends a load that is not finished, and frees its resources.
// It is not safe for concurrent use.
type Load interface {
	// Add copies the pairs of b, which stays the caller's. From pair to pair,
	// within a batch and across batches, either the space is greater, or it is the
	// same and the key is greater. Anything else, including deletes, returns
	// ErrUnordered. The limits of Write apply to b.
	Add(b *Batch) error
	// Finish makes everything durable and lets readers see it.
	Finish() error
}
