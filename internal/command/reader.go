package command

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/kv"
)

// reader takes values off the front of p. After the first error every value is zero.
type reader struct {
	p   []byte
	err error
}

func (r *reader) require(ok bool, what string) {
	if !ok && r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, what)
		r.p = nil
	}
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.p)
	r.require(n > 0 && shortest(r.p[:n]), "bad varint")
	if r.err != nil {
		return 0
	}
	r.p = r.p[n:]
	return v
}

// shortest reports whether a varint has no needless bytes: its last byte, which holds the
// highest bits, may be 0 only if it is the only one.
func shortest(varint []byte) bool {
	return len(varint) == 1 || varint[len(varint)-1] != 0
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.p)
	r.require(n > 0 && shortest(r.p[:n]), "bad varint")
	if r.err != nil {
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *reader) uint64() uint64 {
	r.require(len(r.p) >= 8, "cut short")
	if r.err != nil {
		return 0
	}
	v := binary.LittleEndian.Uint64(r.p)
	r.p = r.p[8:]
	return v
}

func (r *reader) byte() byte {
	r.require(len(r.p) >= 1, "cut short")
	if r.err != nil {
		return 0
	}
	b := r.p[0]
	r.p = r.p[1:]
	return b
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	r.require(n <= uint64(len(r.p)), "cut short")
	if r.err != nil {
		return nil
	}
	b := r.p[:n:n]
	r.p = r.p[n:]
	return b
}

func (r *reader) mutations() []kv.Mutation {
	n := r.uvarint()
	// A mutation takes at least three bytes: never reserve more memory than
	// the input could fill.
	r.require(n <= uint64(len(r.p)/3), "more mutations than bytes")
	if r.err != nil || n == 0 {
		return nil
	}
	ms := make([]kv.Mutation, n)
	for i := range ms {
		op := r.byte()
		r.require(op&^opsKnown == 0, "unknown mutation")
		ms[i].Delete = op&opDelete != 0
		ms[i].Key = r.bytes()
		r.require(len(ms[i].Key) > 0, "empty key")
		if op&opExpires != 0 {
			ms[i].ExpireTS = r.uvarint()
			r.require(ms[i].ExpireTS != 0, "zero expiry is present")
		}
		if !ms[i].Delete {
			ms[i].Value = r.bytes()
		}
		if r.err != nil {
			return nil
		}
	}
	return ms
}
