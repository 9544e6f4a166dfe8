package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// ErrMalformed means that bytes are not the encoding of a command. A replica that finds
// such bytes in its log must stop: skipping the entry would make its state differ from the
// others'.
var ErrMalformed = errors.New("malformed log entry")

// The layout; integers are unsigned varints unless said otherwise, always in
// their shortest form, so that a command has one encoding only:
//
//	version  1 byte: 2 for a command that has one of the further flags, else 1
//	kind     1 byte
//	flags    1 byte: which of the optional parts follow; flagFlag is Flag itself
//	[further flags  1 byte, not 0]                       version 2
//	clock
//	[client (8 bytes, little endian), sequence, acked]   flagRequest
//	[expect]                                             flagExpect
//	[delta (zigzag)]                                     flagDelta
//	[fence]                                              flagFence
//	[term, owner, nonce (8 bytes), cluster, history]     flagBegin
//	[lease, in nanoseconds]                              furtherLease
//	[history, end, digest (8 bytes)]                     furtherOrigin
//	[replica id, record]                                 flagMember
//	[pairs, index, history]                              flagRestored
//	mutations: count, then each
//	  op     1 byte: opPut or opDelete, with opExpires
//	  key
//	  [expireTS]                                         opExpires
//	  [value]                                            opPut
//
// Byte strings have their length in front. furtherRepeat is Request.Repeat itself.
const (
	version1 = 1
	version2 = 2

	flagRequest = 1 << 0
	flagExpect  = 1 << 1
	flagDelta   = 1 << 2
	flagFlag    = 1 << 3
	flagFence   = 1 << 4
	flagBegin   = 1 << 5
	flagMember  = 1 << 6

	flagRestored = 1 << 7

	furtherRepeat = 1 << 0
	furtherLease  = 1 << 1
	furtherOrigin = 1 << 2
	furtherKnown  = furtherRepeat | furtherLease | furtherOrigin

	opPut     = 0
	opDelete  = 1
	opExpires = 1 << 1
	opsKnown  = opDelete | opExpires
)

// flags returns the flags of the optional parts that the command has.
func (c *Command) flags() byte {
	var flags byte
	if !c.Request.IsZero() {
		flags |= flagRequest
	}
	if len(c.Expect) > 0 {
		flags |= flagExpect
	}
	if c.Delta != 0 {
		flags |= flagDelta
	}
	if c.Flag {
		flags |= flagFlag
	}
	if c.Fence != 0 {
		flags |= flagFence
	}
	if c.Begin != nil {
		flags |= flagBegin
	}
	if c.Member != nil {
		flags |= flagMember
	}
	if c.Restored != nil {
		flags |= flagRestored
	}
	return flags
}

// further returns the flags of the parts that only version 2 has.
func (c *Command) further() byte {
	var further byte
	if c.Request.Repeat && !c.Request.IsZero() {
		further |= furtherRepeat
	}
	if c.Begin != nil && c.Begin.Stated {
		further |= furtherLease
	}
	if c.Begin != nil && c.Begin.Origin != nil {
		further |= furtherOrigin
	}
	return further
}

// Append appends the encoding of c to dst.
func (c *Command) Append(dst []byte) []byte {
	flags := c.flags()
	if further := c.further(); further != 0 {
		dst = append(dst, version2, byte(c.Kind), flags, further)
	} else {
		dst = append(dst, version1, byte(c.Kind), flags)
	}
	dst = binary.AppendUvarint(dst, uint64(c.Clock))
	if flags&flagRequest != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, c.Request.Client)
		dst = binary.AppendUvarint(dst, c.Request.Sequence)
		dst = binary.AppendUvarint(dst, c.Request.Acked)
	}
	if flags&flagExpect != 0 {
		dst = appendBytes(dst, c.Expect)
	}
	if flags&flagDelta != 0 {
		dst = binary.AppendVarint(dst, c.Delta)
	}
	if flags&flagFence != 0 {
		dst = binary.AppendUvarint(dst, c.Fence)
	}
	if b := c.Begin; b != nil {
		dst = b.append(dst)
	}
	if m := c.Member; m != nil {
		dst = binary.AppendUvarint(dst, m.ID)
		dst = appendBytes(dst, m.Record)
	}
	if r := c.Restored; r != nil {
		dst = binary.AppendUvarint(dst, r.Pairs)
		dst = binary.AppendUvarint(dst, r.Index)
		dst = appendBytes(dst, []byte(r.History))
	}
	return AppendMutations(dst, c.Mutations)
}

// Decode parses one encoded command. The command's slices point into p. The
// error is ErrMalformed or ErrNewer.
func Decode(p []byte) (Command, error) {
	h, rest, err := decodeHead(p)
	if err != nil {
		return Command{}, err
	}
	r := reader{p: rest}
	c := Command{Kind: h.kind, Clock: kv.Clock(r.uvarint())}
	c.decodeParts(&r, h)
	c.Mutations = r.mutations()
	r.require(len(r.p) == 0, "bytes after the end")
	if err := r.err; err != nil {
		return Command{}, err
	}
	return c, c.check()
}

// head is everything before the clock.
type head struct {
	kind           Kind
	flags, further byte
}

// decodeHead takes the head off the front of p and returns the rest.
func decodeHead(p []byte) (h head, rest []byte, err error) {
	if len(p) < 4 {
		return h, nil, fmt.Errorf("%w: %d bytes are too few", ErrMalformed, len(p))
	}
	h = head{kind: Kind(p[1]).present(), flags: p[2]} // all flags of this byte are known
	switch p[0] {
	case version1:
		rest = p[3:]
	case version2:
		h.further, rest = p[3], p[4:]
	case 0:
		return h, nil, fmt.Errorf("%w: version 0", ErrMalformed)
	default:
		return h, nil, fmt.Errorf("%w (version %d of the encoding is unknown here)", ErrNewer, p[0])
	}
	switch {
	case h.kind == 0:
		return h, nil, fmt.Errorf("%w: kind 0", ErrMalformed)
	case !h.kind.known():
		return h, nil, fmt.Errorf("%w (kind %d is unknown here)", ErrNewer, p[1])
	case p[0] == version2 && h.further == 0:
		return h, nil, fmt.Errorf("%w: version 2 without a part that needs it", ErrMalformed)
	case h.further&^furtherKnown != 0:
		return h, nil, fmt.Errorf("%w (further flags %#x are unknown here)", ErrNewer, h.further)
	}
	return h, rest, nil
}

// decodeParts reads the optional parts that h announces.
func (c *Command) decodeParts(r *reader, h head) {
	if h.flags&flagRequest != 0 {
		c.Request = kv.RequestID{Client: r.uint64(), Sequence: r.uvarint(), Acked: r.uvarint()}
		r.require(c.Request.Client != 0, "request without a client")
		r.require(c.Request.Acked < c.Request.Sequence, "request that acknowledges itself")
	}
	if h.flags&flagExpect != 0 {
		c.Expect = r.bytes()
		r.require(len(c.Expect) > 0, "empty expected value is present")
	}
	if h.flags&flagDelta != 0 {
		c.Delta = r.varint()
		r.require(c.Delta != 0, "zero delta is present")
	}
	c.Flag = h.flags&flagFlag != 0
	if h.flags&flagFence != 0 {
		c.Fence = r.uvarint()
		r.require(c.Fence != 0, "zero fence is present")
	}
	if h.flags&flagBegin != 0 {
		c.Begin = decodeBegin(r, h.further)
	}
	if h.flags&flagMember != 0 {
		c.Member = &Member{ID: r.uvarint(), Record: r.bytes()}
	}
	if h.flags&flagRestored != 0 {
		c.Restored = &Restored{Pairs: r.uvarint(), Index: r.uvarint(), History: string(r.bytes())}
	}
	c.Request.Repeat = h.further&furtherRepeat != 0
	r.require(!c.Request.Repeat || c.Request.Client != 0, "repeat of no request")
	r.require(h.further&(furtherLease|furtherOrigin) == 0 || c.Begin != nil, "lease or origin of no epoch")
}

func (b *Begin) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, b.Term)
	dst = binary.AppendUvarint(dst, b.Owner)
	dst = binary.LittleEndian.AppendUint64(dst, b.Nonce)
	dst = appendBytes(dst, []byte(b.Cluster))
	dst = appendBytes(dst, []byte(b.History))
	if b.Stated {
		dst = binary.AppendUvarint(dst, uint64(b.Lease))
	}
	if o := b.Origin; o != nil {
		dst = appendBytes(dst, []byte(o.History))
		dst = binary.AppendUvarint(dst, o.End)
		dst = binary.LittleEndian.AppendUint64(dst, o.Digest)
	}
	return dst
}

func decodeBegin(r *reader, further byte) *Begin {
	b := &Begin{
		Term: r.uvarint(), Owner: r.uvarint(), Nonce: r.uint64(),
		Cluster: string(r.bytes()), History: string(r.bytes()),
	}
	if b.Stated = further&furtherLease != 0; b.Stated {
		lease := r.uvarint()
		r.require(lease <= uint64(maxLease), "lease of more than a day")
		b.Lease = time.Duration(lease)
	}
	if further&furtherOrigin != 0 {
		b.Origin = &Origin{History: string(r.bytes()), End: r.uvarint(), Digest: r.uint64()}
	}
	return b
}

// AppendMutations appends the encoding of ms, which commands and change records share.
func AppendMutations(dst []byte, ms []kv.Mutation) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ms)))
	for i := range ms {
		m := &ms[i]
		op := byte(opPut)
		if m.Delete {
			op = opDelete
		}
		if m.ExpireTS != 0 {
			op |= opExpires
		}
		dst = append(dst, op)
		dst = appendBytes(dst, m.Key)
		if m.ExpireTS != 0 {
			dst = binary.AppendUvarint(dst, m.ExpireTS)
		}
		if !m.Delete {
			dst = appendBytes(dst, m.Value)
		}
	}
	return dst
}

// DecodeMutations parses what AppendMutations wrote and rejects bytes after it. The slices
// point into p. The error is ErrMalformed.
func DecodeMutations(p []byte) ([]kv.Mutation, error) {
	r := reader{p: p}
	ms := r.mutations()
	r.require(len(r.p) == 0, "bytes after the end")
	if r.err != nil {
		return nil, r.err
	}
	return ms, nil
}

// AppendResult appends the encoding of r that the request table stores.
func AppendResult(dst []byte, r Result) []byte {
	dst = append(dst, version1, byte(r.Code))
	dst = binary.AppendUvarint(dst, r.Index)
	return binary.AppendVarint(dst, r.Counter)
}

// DecodeResult parses what AppendResult wrote. The error is ErrMalformed.
func DecodeResult(p []byte) (Result, error) {
	if len(p) < 2 || p[0] != version1 {
		return Result{}, fmt.Errorf("%w: result", ErrMalformed)
	}
	r := reader{p: p[2:]}
	res := Result{Code: Code(p[1]), Index: r.uvarint(), Counter: r.varint()}
	r.require(len(r.p) == 0, "bytes after the end")
	if r.err != nil {
		return Result{}, r.err
	}
	return res, nil
}

func appendBytes(dst, p []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(p)))
	return append(dst, p...)
}
