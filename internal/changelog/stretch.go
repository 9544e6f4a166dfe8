package changelog

import "github.com/dkvdb/dkv/internal/kv"

// Changes travel to a slave, and are applied there, in stretches. Their sizes are decided
// here, and twice only:
//
//   - The master cuts messages, by the bytes of a stretch: what a slow receiver and the line
//     may hold. A change is never cut; a larger one is a message of its own.
//   - The slave's replica cuts engine batches, by changes and bytes, and by what the engine
//     takes at once.
//
// Nothing in between cuts. While a batch is written, the slave receives a bounded number of
// further messages; it then applies together all that have arrived, so that many small
// messages become one batch.
const (
	// StreamBytes is what a message of a stream holds: enough to keep a line busy until the
	// next look at the log. A receiver that does not read costs two of them. More saves
	// nothing on a fast line; less makes a line with a long way idle.
	StreamBytes = 512 << 10
	// PageBytes is what a response to GetChanges holds. It is below the 4 MiB that gRPC
	// clients accept if they are not told otherwise.
	PageBytes = 3<<20 + 512<<10
	// PageChanges is how many changes a stretch of either kind holds.
	PageChanges = 100_000
	// BatchChanges and BatchBytes bound an engine batch, in changes and in the bytes that
	// it may take at most. A larger batch is no faster.
	BatchChanges = 1024
	BatchBytes   = 8 << 20
)

// MessageOverhead is the most that a mutation of a change takes in a message around its key
// and value.
const MessageOverhead = 32

// MessageBytes is the most that a change with these mutations takes in a message.
func MessageBytes(ms []kv.Mutation) int {
	n := len(ms) * MessageOverhead
	for i := range ms {
		n += len(ms[i].Key) + len(ms[i].Value)
	}
	return n
}
