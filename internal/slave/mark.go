package slave

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// mark identifies a change: logs that have the same one under its number are the same up to
// there. Unlike the change it takes little memory. The zero value stands for no change.
type mark struct {
	index kv.Index
	clock kv.Clock
	// sum is the xxHash of the mutations, bytes the size of their keys and values.
	sum   uint64
	bytes int
}

func markOf(c *kv.Change) mark {
	h := xxhash.New()
	out := mark{index: c.Index, clock: c.Clock}
	var head [17]byte
	for i := range c.Mutations {
		m := &c.Mutations[i]
		head[0] = 0
		if m.Delete {
			head[0] = 1
		}
		binary.LittleEndian.PutUint32(head[1:], uint32(len(m.Key)))
		binary.LittleEndian.PutUint32(head[5:], uint32(len(m.Value)))
		binary.LittleEndian.PutUint64(head[9:], m.ExpireTS)
		// These never fail.
		_, _ = h.Write(head[:])
		_, _ = h.Write(m.Key)
		_, _ = h.Write(m.Value)
		out.bytes += len(m.Key) + len(m.Value)
	}
	out.sum = h.Sum64()
	return out
}

// holds reports whether a log is the one that was applied here up to at, as far as a
// response with its changes from the mark's number on shows: the first change must be the
// marked one, and the next one must be new.
func (m mark) holds(resp *serverpb.GetChangesResponse, at kv.Index) bool {
	records := resp.GetChanges()
	if len(records) == 0 || records[0].GetChangeNumber() != m.index {
		return false
	}
	first := kv.Change{Index: m.index, Clock: kv.Clock(records[0].GetClock()), Mutations: make([]kv.Mutation, len(records[0].GetTrxns()))}
	if _, err := fill(first.Mutations, records[0].GetTrxns()); err != nil || markOf(&first) != m {
		return false
	}
	return len(records) == 1 || records[1].GetChangeNumber() > at
}
