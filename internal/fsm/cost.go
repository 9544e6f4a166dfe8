package fsm

import "github.com/dkvdb/dkv/internal/command"

// What goes around keys and values in a batch, at most: tags, spaces, lengths,
// headers and indexes.
const (
	// mutationOverhead is of a data record, a change record's mutation, and an
	// entry of the expiry index that goes and one that comes.
	mutationOverhead = 128
	// commandOverhead is of a change record and the state record.
	commandOverhead = 256
	// requestOverhead is of a remembered request, forgottenOverhead of one that
	// is removed.
	requestOverhead   = 128
	forgottenOverhead = 32
)

// BatchCost returns the most that applying c adds to an engine batch: its bytes
// and its operations. Engines that limit a batch are spared one that is too
// large, which could only fail.
func BatchCost(c *command.Command) (bytes, ops int) {
	bytes, ops = commandOverhead, 2
	for i := range c.Mutations {
		m := &c.Mutations[i]
		bytes += mutationOverhead + 4*len(m.Key) + 2*len(m.Value)
		ops += 3
	}
	if !c.Request.IsZero() {
		bytes += requestOverhead + 2*maxForgotten*forgottenOverhead
		ops += 1 + 2*maxForgotten
	}
	return bytes, ops
}
