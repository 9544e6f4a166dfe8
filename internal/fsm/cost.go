package fsm

import (
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
)

// What a batch has beyond keys and values, in bytes at most: tags, spaces, lengths, headers
// and indexes.
const (
	// mutationOverhead covers a data record, a mutation in a change record, and one entry
	// each that leaves and enters the expiry index.
	mutationOverhead = 128
	// commandOverhead covers a change record and the state record.
	commandOverhead = 256
)

// mutationOps is the number of operations for a mutation: a data record, and one entry each
// that leaves and enters the expiry index.
const mutationOps = 3

// mutationCost returns how many bytes a mutation adds to a batch at most, its place in the
// change record included.
func mutationCost(m *kv.Mutation) int { return mutationOverhead + 4*len(m.Key) + 2*len(m.Value) }

// BatchCost returns how many bytes and operations applying c adds to an engine batch at most.
// With it a batch that an engine would reject as too large is never begun.
func BatchCost(c *command.Command) (bytes, ops int) {
	bytes, ops = commandOverhead, 2
	for i := range c.Mutations {
		bytes += mutationCost(&c.Mutations[i])
		ops += mutationOps
	}
	if c.Kind == command.SetTiming || c.Kind == command.SetStandbys {
		bytes += mutationOverhead + len(c.Expect)
		ops++
	}
	if !c.Request.IsZero() {
		bytes += requests.MaxBytes + changelog.RequestBytes
		ops += requests.MaxOps
	}
	return bytes, ops
}

// ReplicaCost returns how many bytes and operations Replicate adds to an engine batch for a
// change at most.
func ReplicaCost(c *kv.Change) (bytes, ops int) {
	bytes, ops = commandOverhead, 2+mutationOps*len(c.Mutations)
	if c.Request != nil {
		bytes += requests.MaxBytes + changelog.RequestBytes
		ops += requests.MaxOps
	}
	for i := range c.Mutations {
		bytes += mutationCost(&c.Mutations[i])
	}
	return bytes, ops
}
