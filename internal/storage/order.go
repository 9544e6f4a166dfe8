package storage

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// place is where a mutation lies in a batch. It has no pointers, so that a hundred thousand of
// them are nothing to the garbage collector.
type place struct {
	// prefix is the key's first bytes, by which most keys differ.
	prefix uint64
	// The mutation and its key within the batch.
	begin, end, keyBegin, keyEnd uint32
	space                        Space
}

// compare orders mutations of the batch rep by space and key.
func (p *place) compare(q *place, rep []byte) int {
	if by := cmp.Or(cmp.Compare(p.space, q.space), cmp.Compare(p.prefix, q.prefix)); by != 0 {
		return by
	}
	return bytes.Compare(rep[p.keyBegin:p.keyEnd], rep[q.keyBegin:q.keyEnd])
}

// Order puts the mutations into the order of their keys, and keeps the last of each key. An
// engine that is written as a sorted list finds the place of a key much faster beside the
// one before than anywhere: a request with many keys in no order holds up all writes behind it
// several times as long. The effect of the batch is the same. A batch with a range of keys to
// delete stays as it is.
func (b *Batch) Order() error {
	rep := b.rep
	if len(rep) > math.MaxUint32 {
		return nil
	}
	places, ordered := slices.Grow(b.places[:0], int(b.count)), true
	if cap(places) <= maxPlaces {
		b.places = places
	}
	for p := rep[min(batchHeader, len(rep)):]; len(p) > 0; {
		op, rest, err := nextOp(p)
		if err != nil {
			return err
		}
		if op.Kind == OpDeleteRange {
			return nil
		}
		var first [8]byte
		copy(first[:], op.Key)
		key := cap(rep) - cap(op.Key) // where it begins: both reach to the end of the same memory
		places = append(places, place{
			prefix: binary.BigEndian.Uint64(first[:]), space: op.Space, begin: uint32(len(rep) - len(p)), end: uint32(len(rep) - len(rest)),
			keyBegin: uint32(key), keyEnd: uint32(key + len(op.Key)),
		})
		if n := len(places); n > 1 {
			ordered = ordered && places[n-2].compare(&places[n-1], rep) < 0
		}
		p = rest
	}
	if ordered {
		return nil
	}
	slices.SortFunc(places, func(p, q place) int {
		return cmp.Or(p.compare(&q, rep), cmp.Compare(p.begin, q.begin)) // the last of a key comes last
	})
	out := append(slices.Grow(b.spare[:0], len(rep)), rep[:batchHeader]...)
	count := uint32(0)
	for i := range places {
		if i+1 == len(places) || places[i].compare(&places[i+1], rep) != 0 {
			out = append(out, rep[places[i].begin:places[i].end]...)
			count++
		}
	}
	b.rep, b.spare, b.count = out, nil, count
	if cap(rep) <= maxKept {
		b.spare = rep
	}
	return nil
}
