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

// markOfRecord returns the mark of a change that a master has sent; false if it is none.
func markOfRecord(r *serverpb.ChangeRecord) (mark, bool) {
	c := kv.Change{Index: r.GetChangeNumber(), Clock: kv.Clock(r.GetClock()), Mutations: make([]kv.Mutation, len(r.GetTrxns()))}
	if _, err := fill(c.Mutations, r.GetTrxns()); err != nil {
		return mark{}, false
	}
	return markOf(&c), true
}

// holds reports whether a log is the one that was applied here up to at, as far as a
// response with its changes from the mark's number on shows: the first change must be the
// marked one, and the next one must be new.
func (m mark) holds(resp *serverpb.GetChangesResponse, at kv.Index) bool {
	records := resp.GetChanges()
	if len(records) == 0 || records[0].GetChangeNumber() != m.index {
		return false
	}
	if first, ok := markOfRecord(records[0]); !ok || first != m {
		return false
	}
	return len(records) == 1 || records[1].GetChangeNumber() > at
}

// markAt returns the mark of the change that a log has where a state knows of none that comes
// after, up to at; see State.LastChange. The mark is zero if the log has no change there either. fits is
// false if the log is not the one that was applied here up to at, as far as a response with its changes
// from there on shows.
func markAt(resp *serverpb.GetChangesResponse, there *kv.Change, at kv.Index) (m mark, fits bool) {
	for _, r := range resp.GetChanges() {
		switch n := r.GetChangeNumber(); {
		case n > at:
		case n != there.Index:
			return mark{}, false
		case there.Clock != 0 && r.GetClock() != 0 && kv.Clock(r.GetClock()) != there.Clock:
			return mark{}, false
		default:
			if m, fits = markOfRecord(r); !fits {
				return mark{}, false
			}
		}
	}
	return m, true
}
