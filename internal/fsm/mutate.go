package fsm

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func (tx *tx) mutate(c *command.Command, res *command.Result) error {
	switch c.Kind {
	case command.Write:
		tx.effects = slices.Grow(tx.effects, len(c.Mutations))
		for i := range c.Mutations {
			tx.set(c.Mutations[i])
		}
	case command.CompareAndSet:
		if !tx.matches(c.Mutations[0].Key, c.Expect) {
			res.Code = command.NotUpdated
			return nil
		}
		tx.set(c.Mutations[0])
	case command.Increment:
		res.Counter, res.Code = tx.increment(c.Mutations[0], c.Delta)
	case command.Expire:
		for i := range c.Mutations {
			tx.expire(c.Mutations[i])
		}
	default:
		return fmt.Errorf("%w: %v", command.ErrMalformed, c.Kind)
	}
	return nil
}

// live returns a key's value as a user sees it at the log's clock, and whether there is one.
func (tx *tx) live(key []byte) (current, bool) {
	cur := tx.known[string(key)]
	return *cur, cur.found && !tx.m.state.Clock.Expired(cur.expireTS)
}

// matches reports whether CompareAndSet's condition holds.
func (tx *tx) matches(key, expect []byte) bool {
	cur, live := tx.live(key)
	if len(expect) == 0 {
		return !live || cur.size == 0
	}
	return live && cur.size == len(expect) && string(cur.value) == string(expect)
}

// counterBytes is the length of a counter.
const counterBytes = 8

func (tx *tx) increment(m kv.Mutation, delta int64) (int64, command.Code) {
	cur, live := tx.live(m.Key)
	var counter int64
	if live && cur.size > 0 {
		if cur.size != counterBytes {
			return 0, command.NotACounter
		}
		counter = int64(binary.BigEndian.Uint64(cur.value))
	}
	if (delta > 0 && counter > math.MaxInt64-delta) || (delta < 0 && counter < math.MinInt64-delta) {
		return counter, command.Overflow
	}
	counter += delta
	if live && m.ExpireTS == 0 {
		m.ExpireTS = cur.expireTS
	}
	m.Value = binary.BigEndian.AppendUint64(nil, uint64(counter))
	tx.set(m)
	return counter, command.OK
}

func (tx *tx) expire(m kv.Mutation) {
	cur := tx.known[string(m.Key)]
	if !cur.found || cur.expireTS != m.ExpireTS || !tx.m.state.Clock.Expired(m.ExpireTS) {
		return // overwritten since the command was proposed
	}
	tx.remove(m.Key, cur)
	tx.m.state.Expired++
}

// set puts or deletes a key. A put that has expired already is a delete.
func (tx *tx) set(m kv.Mutation) {
	cur := tx.known[string(m.Key)]
	if m.Delete || tx.m.state.Clock.Expired(m.ExpireTS) {
		tx.remove(m.Key, cur)
		return
	}
	if cur != nil {
		tx.reindex(m.Key, cur, m.ExpireTS)
		*cur = current{value: m.Value, size: len(m.Value), expireTS: m.ExpireTS, found: true}
	}
	layout.PutData(tx.batch, m.Key, m.Value, m.ExpireTS)
	tx.effects = append(tx.effects, m)
}

// remove deletes a key if it exists.
func (tx *tx) remove(key []byte, cur *current) {
	if !cur.found {
		return
	}
	tx.reindex(key, cur, 0)
	*cur = current{}
	tx.batch.Delete(storage.Data, key)
	tx.effects = append(tx.effects, kv.Mutation{Key: key, Delete: true})
}

// reindex moves a key's entry in the expiry index from its current expiry to the next one.
// 0 means that there is none, as for a key that does not exist.
func (tx *tx) reindex(key []byte, cur *current, next uint64) {
	if cur.expireTS == next {
		return
	}
	s := &tx.m.scratch
	if cur.expireTS != 0 {
		s.expiry = layout.AppendExpiryKey(s.expiry[:0], cur.expireTS, key)
		tx.batch.Delete(storage.Expiry, s.expiry)
		tx.m.state.Expiring--
	}
	if next != 0 {
		s.expiry = layout.AppendExpiryKey(s.expiry[:0], next, key)
		tx.batch.Put(storage.Expiry, s.expiry)
		tx.m.state.Expiring++
	}
}
