package storage

// BulkLoader is an Engine that can be filled with sorted pairs faster than Write
// could do it: straight into sorted files, past log and memtables.
type BulkLoader interface {
	// BeginLoad starts to fill the engine. It fails with ErrNotEmpty if anything was
	// written to it before. Until the load is finished the engine must not be used
	// otherwise, except to Close it.
	BeginLoad() (Load, error)
}

// Load fills an empty engine. What was added is all there once Finish has
// returned, and worth nothing before: a crash in the middle leaves a folder that
// is of no use but to be deleted. So does an error, after which the load is lost.
// A load that is not finished ends, and lets go of what it holds, when its engine
// is closed. It is not safe for concurrent use.
type Load interface {
	// Add takes over the pairs of b, which stays the caller's. From pair to pair,
	// and from batch to batch, the space is a higher one, or the same and the key
	// a higher one; all else, deletes too, is an ErrUnordered. The limits of Write
	// apply to b.
	Add(b *Batch) error
	// Finish makes everything durable and lets readers see it.
	Finish() error
}
