package changelog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// A record is stored under the index of its last change, 8 bytes big endian. One of a single
// change is
//
//	version  1 byte: 2 for a change with a request, else 1
//	clock    varint
//	total    varint: bytes of all changes ever recorded, this one included
//	[request]  version 2
//	mutations as in package command
//
// and one of several is
//
//	version  1 byte: 3
//	count    varint
//	total    varint: that of the change before the first one
//	count times:
//	  step     varint: how far the change is from the one before in the record; 0 for the first
//	  clock    varint, signed: the difference to that one's clock; to 0 for the first
//	  length   varint: of its mutations
//	  flags    1 byte: 1 if there is a request
//	  [request]
//	the mutations of all of them, as in package command
//
// with a request as
//
//	client (8 bytes), sequence, acked, fingerprint (8 bytes), code (1 byte), counter
//
// With the running total, the size of any part of the log is the difference of two changes,
// and no counter has to be stored with them. The total is a part of the state that replicas
// compare, so it counts keys and mutations only, as every release does, whatever record they are in.
const (
	recordSingle  = 1
	recordRequest = 2
	recordShared  = 3
	newestRecord  = recordShared
)

const (
	// RecordBytes is what the mutations of several changes in a record come to at most, and
	// RecordChanges how many there are. A reader of one change reads its record, and larger ones
	// save little: of what the engine does for a change in a record of its own, a record of 64
	// saves all but a sixty-fourth.
	RecordBytes   = 32 << 10
	RecordChanges = 256
	// keptBytes is the memory that a Writer keeps.
	keptBytes = 2 * RecordBytes
)

const flagRequest = 1

// What an entry of a record of several changes takes at least: step, clock, length and flags.
const entryBytes = 4

// Key returns the key of index in storage.Changelog.
func Key(index kv.Index) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// Writer adds changes to batches. It is not safe for concurrent use.
type Writer struct {
	key    [8]byte
	header []byte
	// changes are those of the record that is being filled, whose mutations are bodies.
	changes []entry
	bodies  []byte
}

// Append adds c to a batch, which Flush completes. total is the running total before c. Append returns the new one.
func (w *Writer) Append(b *storage.Batch, c kv.Change, total uint64) uint64 {
	before := len(w.bodies)
	w.bodies = command.AppendMutations(w.bodies, c.Mutations)
	if size := len(w.bodies); before > 0 && size > RecordBytes || len(w.changes) == RecordChanges {
		body := w.bodies[before:size]
		w.bodies = w.bodies[:before]
		w.Flush(b)
		w.bodies = append(w.bodies[:0], body...)
		before = 0
	}
	e := entry{index: c.Index, clock: c.Clock, size: uint64(len(w.key) + len(w.bodies) - before)}
	e.total = total + e.size
	if c.Request != nil {
		e.request = *c.Request
	}
	w.changes = append(w.changes, e)
	return e.total
}

// Flush adds the changes that Append has kept back to b.
func (w *Writer) Flush(b *storage.Batch) {
	if len(w.changes) == 0 {
		return
	}
	w.header = w.header[:0]
	if len(w.changes) == 1 {
		w.single()
	} else {
		w.shared()
	}
	binary.BigEndian.PutUint64(w.key[:], w.changes[len(w.changes)-1].index)
	b.Put(storage.Changelog, w.key[:], w.header, w.bodies)
	w.changes, w.bodies = w.changes[:0], w.bodies[:0]
	if cap(w.bodies) > keptBytes {
		w.bodies = nil
	}
}

func (w *Writer) single() {
	e := &w.changes[0]
	version := byte(recordSingle)
	if e.request.ID.Client != 0 {
		version = recordRequest
	}
	w.header = append(w.header, version)
	w.header = binary.AppendUvarint(w.header, uint64(e.clock))
	w.header = binary.AppendUvarint(w.header, e.total)
	if version == recordRequest {
		w.header = appendRequest(w.header, &e.request)
	}
}

func (w *Writer) shared() {
	first := &w.changes[0]
	w.header = append(w.header, recordShared)
	w.header = binary.AppendUvarint(w.header, uint64(len(w.changes)))
	w.header = binary.AppendUvarint(w.header, first.total-first.size)
	last := entry{index: first.index}
	for i := range w.changes {
		e := &w.changes[i]
		w.header = binary.AppendUvarint(w.header, e.index-last.index)
		w.header = binary.AppendVarint(w.header, int64(e.clock-last.clock))
		w.header = binary.AppendUvarint(w.header, e.size-uint64(len(w.key)))
		if e.request.ID.Client != 0 {
			w.header = append(w.header, flagRequest)
			w.header = appendRequest(w.header, &e.request)
		} else {
			w.header = append(w.header, 0)
		}
		last = *e
	}
}

// entry is a change in a record.
type entry struct {
	index kv.Index
	clock kv.Clock
	total uint64
	// size is what the change added to total.
	size uint64
	// request has no client if there is none.
	request kv.ChangeRequest
	body    []byte
}

// head returns e without what lies in the record's memory.
func (e entry) head() entry {
	e.body = nil
	return e
}

// change decodes the mutations, which lie in the memory of the body.
func (e *entry) change() (kv.Change, error) {
	ms, err := command.DecodeMutations(e.body)
	if err != nil {
		return kv.Change{}, fmt.Errorf("%w: change %d: %w", storage.ErrCorrupt, e.index, err)
	}
	c := kv.Change{Index: e.index, Clock: e.clock, Mutations: ms}
	if !e.request.ID.IsZero() {
		request := e.request
		c.Request = &request
	}
	return c, nil
}

// own gives the entries, which follow each other in a record, memory of their own.
func own(entries []entry) {
	n := 0
	for i := range entries {
		n += len(entries[i].body)
	}
	memory := make([]byte, 0, n)
	for i := range entries {
		from := len(memory)
		memory = append(memory, entries[i].body...)
		entries[i].body = memory[from:len(memory):len(memory)]
	}
}

// decode appends the changes of a record to dst, at least one. Their bodies lie in value.
func decode(dst []entry, key, value []byte) ([]entry, error) {
	if len(key) != 8 {
		return nil, fmt.Errorf("%w: change record %x: key length", storage.ErrCorrupt, key)
	}
	if len(value) > 0 && value[0] > newestRecord {
		return nil, storage.Newer(fmt.Sprintf("change record %x", key), uint64(value[0]), newestRecord)
	}
	p := reader{rest: value}
	index := binary.BigEndian.Uint64(key)
	switch version := p.byte("no format"); version {
	case recordSingle, recordRequest:
		dst = append(dst, p.single(index, version == recordRequest))
	case recordShared:
		dst = p.shared(dst, index)
	default:
		p.fail("no format")
	}
	if p.err != nil {
		return nil, fmt.Errorf("%w: change record %x: %w", storage.ErrCorrupt, key, p.err)
	}
	return dst, nil
}

// reader reads a record. After an error it reads nothing more.
type reader struct {
	rest []byte
	err  error
}

func (p *reader) fail(what string) {
	if p.err == nil {
		p.rest, p.err = nil, errors.New(what)
	}
}

func (p *reader) byte(what string) byte {
	if len(p.rest) == 0 {
		p.fail(what)
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return b
}

func (p *reader) uvarint(what string) uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		p.fail(what)
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *reader) varint(what string) int64 {
	v, n := binary.Varint(p.rest)
	if n <= 0 {
		p.fail(what)
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *reader) request() kv.ChangeRequest {
	r, rest, ok := takeRequest(p.rest)
	if !ok {
		p.fail("request")
		return kv.ChangeRequest{}
	}
	p.rest = rest
	return r
}

func (p *reader) single(index kv.Index, request bool) entry {
	e := entry{index: index, clock: kv.Clock(p.uvarint("clock")), total: p.uvarint("total")}
	if request {
		e.request = p.request()
	}
	e.body = p.rest
	e.size = uint64(8 + len(e.body))
	if e.total < e.size {
		p.fail("total")
	}
	return e
}

func (p *reader) shared(dst []entry, index kv.Index) []entry {
	count, total := p.uvarint("count"), p.uvarint("total")
	if count == 0 || count > uint64(len(p.rest))/entryBytes {
		p.fail("count")
		return dst
	}
	from := len(dst)
	var last entry
	lengths := uint64(0)
	for i := range count {
		step := p.uvarint("step")
		e := entry{index: last.index + step, clock: last.clock + kv.Clock(p.varint("clock"))}
		length := p.uvarint("length")
		if flags := p.byte("flags"); flags == flagRequest {
			e.request = p.request()
		} else if flags != 0 {
			p.fail("flags")
		}
		e.size = 8 + length
		e.total = total + e.size
		lengths += length
		// The rest holds all bodies, so that no sum of lengths that it allows overflows.
		if length > uint64(len(p.rest)) || lengths > uint64(len(p.rest)) || e.total < total || (step == 0) != (i == 0) || e.index < last.index {
			p.fail("change")
		}
		if p.err != nil {
			return dst
		}
		total, last = e.total, e
		dst = append(dst, e)
	}
	if lengths != uint64(len(p.rest)) || last.index > index {
		p.fail("mutations")
		return dst
	}
	// The steps are counted from the first change, and the key has the last one's index.
	for i := range dst[from:] {
		e := &dst[from+i]
		e.index += index - last.index
		n := e.size - 8
		e.body, p.rest = p.rest[:n:n], p.rest[n:]
	}
	return dst
}
