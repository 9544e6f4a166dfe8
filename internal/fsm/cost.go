package fsm

import (
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
)

// What goes around keys and values in a batch, at most: tags, spaces, lengths,
// headers and indexes.
const (
	// mutationOverhead is of a data record, a change record's mutation, and an
	// entry of the expiry index that goes and one that comes.
	mutationOverhead = 128
	// commandOverhead is of a change record and the state record.
	commandOverhead = 256
)

// mutationOps are a data record, and an entry of the expiry index that goes and one
// that comes.
const mutationOps = 3

// mutationCost is the most that a mutation adds to a batch in bytes, its place in
// the change record included.
func mutationCost(m *kv.Mutation) int { return mutationOverhead + 4*len(m.Key) + 2*len(m.Value) }

// BatchCost returns the most that applying c adds to an engine batch: its bytes
// and its operations. Engines that limit a batch are spared one that is too
// large, which could only fail.
func BatchCost(c *command.Command) (bytes, ops int) {
	bytes, ops = commandOverhead, 2
	for i := range c.Mutations {
		bytes += mutationCost(&c.Mutations[i])
		ops += mutationOps
	}
	if c.Kind == command.SetTiming {
		bytes += mutationOverhead + len(c.Expect)
		ops++
	}
	if !c.Request.IsZero() {
		bytes += requests.MaxBytes
		ops += requests.MaxOps
	}
	return bytes, ops
}
