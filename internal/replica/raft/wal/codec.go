package wal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/crc"
)

// kind says what a record means for its group.
type kind byte

const (
	// kindUpdate adds to what the group has: entries replace those from the first of them on.
	kindUpdate kind = 1 + iota
	// kindInstalled is kindUpdate with a snapshot that takes the place of all entries so far.
	kindInstalled
	// kindMoved repeats entries of a segment that is about to be removed.
	kindMoved
	// kindRemoved forgets the group.
	kindRemoved
	// kindCheckpoint is all that the group has besides its entries.
	kindCheckpoint
)

// What a record holds, as bits of its second byte.
const (
	hasState = 1 << iota
	hasSnapshot
	hasBootstrap
	hasRange
	hasEntries
)

// record is what is saved of one group at once. Nil and empty fields are not saved.
type record struct {
	kind      kind
	group     raftio.NodeInfo
	state     *pb.State
	snapshot  []byte // a marshalled pb.Snapshot
	bootstrap []byte // a marshalled pb.Bootstrap
	// first and next are the range of the group's entries, [first, next); saved if next is
	// not 0.
	first, next uint64
	entries     []pb.Entry
}

// recordHeader is the length of what follows and its CRC-32C.
const recordHeader = 8

// appendTo encodes the record behind b.
func (r *record) appendTo(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, recordHeader)...)
	b = append(b, byte(r.kind), r.parts())
	b = binary.AppendUvarint(b, r.group.ShardID)
	b = binary.AppendUvarint(b, r.group.ReplicaID)
	if r.state != nil {
		b = binary.AppendUvarint(b, r.state.Term)
		b = binary.AppendUvarint(b, r.state.Vote)
		b = binary.AppendUvarint(b, r.state.Commit)
	}
	for _, p := range [][]byte{r.snapshot, r.bootstrap} {
		if p != nil {
			b = binary.AppendUvarint(b, uint64(len(p)))
			b = append(b, p...)
		}
	}
	if r.next != 0 {
		b = binary.AppendUvarint(b, r.first)
		b = binary.AppendUvarint(b, r.next)
	}
	if len(r.entries) > 0 {
		b = appendEntries(b, r.entries)
	}
	body := b[at+recordHeader:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[at+4:], crc.Sum(body))
	return b
}

// span is the range of the entries, [first, next).
func (r *record) span() (first, next uint64) {
	if n := len(r.entries); n > 0 {
		first, next = r.entries[0].Index, r.entries[n-1].Index+1
	}
	return first, next
}

func (r *record) parts() (p byte) {
	if r.state != nil {
		p |= hasState
	}
	if r.snapshot != nil {
		p |= hasSnapshot
	}
	if r.bootstrap != nil {
		p |= hasBootstrap
	}
	if r.next != 0 {
		p |= hasRange
	}
	if len(r.entries) > 0 {
		p |= hasEntries
	}
	return p
}

// appendEntries encodes entries that follow each other: the index of the first, their number,
// and each with its length.
func appendEntries(b []byte, entries []pb.Entry) []byte {
	b = binary.AppendUvarint(b, entries[0].Index)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		e := &entries[i]
		size := e.Size()
		b = binary.AppendUvarint(b, uint64(size))
		at := len(b)
		b = append(b, make([]byte, size)...)
		n, err := e.MarshalTo(b[at:])
		if err != nil || n != size {
			// Its size was asked for: the library contradicts itself.
			panic(fmt.Sprintf("wal: entry %d marshals to %d of %d bytes: %v", e.Index, n, size, err))
		}
	}
	return b
}

// errDamaged is the cause of every error about bytes that were not written as they are.
var errDamaged = errors.New("the checksum does not match, or the length is wrong")

// header is the part of a record before its entries.
type header struct {
	record
	// firstEntry and count describe the entries; those are in packed.
	firstEntry, count uint64
	packed            []byte
}

// splitRecord cuts the first record off b and returns its body, checked.
func splitRecord(b []byte) (body, rest []byte, err error) {
	if len(b) < recordHeader {
		return nil, nil, errDamaged
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	if n > uint64(len(b)-recordHeader) {
		return nil, nil, errDamaged
	}
	body, rest = b[recordHeader:recordHeader+n], b[recordHeader+n:]
	if crc.Sum(body) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, nil, errDamaged
	}
	return body, rest, nil
}

// decode reads the body of a record up to its entries.
func decode(body []byte) (header, error) {
	d := decoder{body}
	var h header
	h.kind = kind(d.byte())
	parts := d.byte()
	h.group = raftio.NodeInfo{ShardID: d.uvarint(), ReplicaID: d.uvarint()}
	if parts&hasState != 0 {
		h.state = &pb.State{Term: d.uvarint(), Vote: d.uvarint(), Commit: d.uvarint()}
	}
	if parts&hasSnapshot != 0 {
		h.snapshot = d.bytes()
	}
	if parts&hasBootstrap != 0 {
		h.bootstrap = d.bytes()
	}
	if parts&hasRange != 0 {
		h.first, h.next = d.uvarint(), d.uvarint()
	}
	if parts&hasEntries != 0 {
		h.firstEntry, h.count = d.uvarint(), d.uvarint()
		h.packed = d.left
	}
	if d.left == nil || h.kind < kindUpdate || h.kind > kindCheckpoint || parts >= hasEntries<<1 {
		return header{}, errDamaged
	}
	return h, nil
}

// unpack appends the entries with an index in [low, high) to ents, until more than room
// bytes are used (by SizeUpperLimit). It returns the bytes that are then used of room.
func (h *header) unpack(ents []pb.Entry, low, high, used, room uint64) ([]pb.Entry, uint64, error) {
	d := decoder{h.packed}
	for index := h.firstEntry; index < min(high, h.firstEntry+h.count); index++ {
		p := d.bytes()
		if d.left == nil {
			return nil, 0, errDamaged
		}
		if index < low {
			continue
		}
		var e pb.Entry
		if err := e.Unmarshal(p); err != nil || e.Index != index {
			return nil, 0, errDamaged
		}
		ents = append(ents, e)
		if used += uint64(e.SizeUpperLimit()); used > room {
			break
		}
	}
	return ents, used, nil
}

// decoder reads what was appended. Once there is too little it has nothing left, and
// returns zeros.
type decoder struct{ left []byte }

func (d *decoder) byte() byte {
	if len(d.left) == 0 {
		d.left = nil
		return 0
	}
	b := d.left[0]
	d.left = d.left[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.left)
	if n <= 0 {
		d.left = nil
		return 0
	}
	d.left = d.left[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if d.left == nil || n > uint64(len(d.left)) {
		d.left = nil
		return nil
	}
	p := d.left[:n:n]
	d.left = d.left[n:]
	return p
}
