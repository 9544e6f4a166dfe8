package storage

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// place is where a mutation lies in a batch.
type place struct {
	space Space
	// prefix is the key's first bytes, by which most keys differ.
	prefix uint64
	key    []byte
	// record has all of the mutation.
	record []byte
	nth    int
}

// compare orders mutations by space and key, those of one key as they are in the batch.
func (p *place) compare(q *place) int {
	if by := cmp.Or(cmp.Compare(p.space, q.space), cmp.Compare(p.prefix, q.prefix)); by != 0 {
		return by
	}
	return cmp.Or(bytes.Compare(p.key, q.key), cmp.Compare(p.nth, q.nth))
}

// same reports whether the mutations are of one key.
func (p *place) same(q *place) bool {
	return p.space == q.space && p.prefix == q.prefix && bytes.Equal(p.key, q.key)
}

// Order puts the mutations into the order of their keys, and keeps the last of each key. An
// engine that is written as a sorted list finds the place of a key much faster beside the
// one before than anywhere: a request with many keys in no order holds up all writes behind it
// several times as long. The effect of the batch is the same. A batch with a range of keys to
// delete stays as it is.
func (b *Batch) Order() error {
	places, ordered := b.places[:0], true
	defer func() {
		clear(places)
		if cap(places) > maxPlaces {
			places = nil
		}
		b.places = places[:0]
	}()
	for p := b.rep[min(batchHeader, len(b.rep)):]; len(p) > 0; {
		op, rest, err := nextOp(p)
		if err != nil {
			return err
		}
		if op.Kind == OpDeleteRange {
			return nil
		}
		var first [8]byte
		copy(first[:], op.Key)
		places = append(places, place{space: op.Space, prefix: binary.BigEndian.Uint64(first[:]), key: op.Key,
			record: p[:len(p)-len(rest)], nth: len(places)})
		if n := len(places); n > 1 {
			last := &places[n-2]
			ordered = ordered && !last.same(&places[n-1]) && last.compare(&places[n-1]) < 0
		}
		p = rest
	}
	if ordered {
		return nil
	}
	slices.SortFunc(places, func(p, q place) int { return p.compare(&q) })
	rep := append(slices.Grow(b.spare[:0], len(b.rep)), b.rep[:batchHeader]...)
	count := uint32(0)
	for i := range places {
		if i+1 == len(places) || !places[i].same(&places[i+1]) {
			rep = append(rep, places[i].record...)
			count++
		}
	}
	b.rep, b.spare, b.count = rep, b.rep, count
	if cap(b.spare) > maxKept {
		b.spare = nil
	}
	return nil
}
