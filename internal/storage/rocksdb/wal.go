package rocksdb

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dkvdb/dkv/internal/crc"
)

// A log file is a sequence of blocks of 32 KiB. A record is one fragment, or
// several in neighbouring blocks; a fragment has a header of
//
//	crc     4 bytes, masked CRC-32C of type and payload
//	length  2 bytes
//	type    1 byte: full, first, middle, last
//
// and the rest of a block that has no room for a header is zero. The payload
// of a record is a write batch, which shim.cc ends with a durability mark. (See
// RocksDB's wiki, "Write Ahead Log File Format". The engine uses neither the
// recycling nor the compression of logs, which have types of their own.)
const (
	logBlock          = 32 << 10
	logFragmentHeader = 7

	fullFragment   = 1
	firstFragment  = 2
	middleFragment = 3
	lastFragment   = 4

	batchHeader = 12 // sequence number (8 bytes), count (4 bytes)
	markMagic   = "\x03\x0cdkvW"
	markSize    = len(markMagic) + 8
)

// logState is what the write-ahead log says about itself.
type logState struct {
	// durable is the greatest sequence number that a sound record says was
	// durable when it was written.
	durable uint64
	// damage is where the first unreadable bytes are; "" for none.
	damage string
	// gaps has the first gap of each file that has any.
	gaps []gap
	// lacking is the last gap between two files; zero for none.
	lacking fileGap
}

// gap is a gap in the sequence numbers within a log file.
type gap struct {
	// in is the number of the file.
	in uint64
	// behind is the sequence number of the first sound record that does not follow the one
	// before it.
	behind uint64
}

// fileGap is a gap in the sequence numbers from one log file to the next.
type fileGap struct {
	// after is the number of the file before the gap.
	after uint64
	// behind is the sequence number of the first record after the gap.
	behind uint64
}

// logBuffer is how much of a log file is read at a time.
const logBuffer = 8 * logBlock

// logBuffers are of *[logBuffer]byte: many engines are opened one after the other.
var logBuffers = sync.Pool{New: func() any { return new([logBuffer]byte) }}

// readLogs reads all log files in dir.
func readLogs(dir string) (logState, error) {
	names, err := logFiles(dir)
	if err != nil {
		return logState{}, err
	}
	buf := logBuffers.Get().(*[logBuffer]byte)
	defer logBuffers.Put(buf)
	r := logReader{
		buf: buf[:],
	}
	var before, next uint64 // of the last file that has records
	for _, name := range names {
		if err := r.readFile(filepath.Join(dir, name)); err != nil {
			return logState{}, fmt.Errorf("read the write-ahead log: %w", err)
		}
		if r.next == 0 {
			continue
		}
		if next != 0 && r.first > next {
			r.state.lacking = fileGap{after: before, behind: r.first}
		}
		before, next = r.file, r.next
	}
	return r.state, nil
}

// logFiles are the names of the log files in dir, oldest first.
func logFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if logNumber(entry.Name()) != 0 {
			names = append(names, entry.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(logNumber(a), logNumber(b)) })
	return names, nil
}

// logNumber is the number of a log file, from 1 on; 0 for other names.
func logNumber(name string) uint64 {
	base, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(base, 10, 64)
	if !ok || err != nil {
		return 0
	}
	return n
}

// logReader reads log files one after the other and continues after damage.
type logReader struct {
	state  logState
	buf    []byte
	record logRecord
	// first is the sequence number of the file's first record, next the one that
	// its next record should have; 0 if there is none yet. Across files only those
	// that are still needed must follow each other: obsolete ones may be deleted in
	// any order.
	first, next uint64
	// file is the file's number, gap whether it has a gap.
	file uint64
	gap  bool
}

// logRecord is as much of a record as matters here: its ends.
type logRecord struct {
	open bool   // a first fragment was read, and no last one yet
	head []byte // the first bytes, up to batchHeader
	tail []byte // the last bytes, up to markSize
}

// add adds a fragment's payload.
func (r *logRecord) add(payload []byte) {
	r.head = append(r.head, payload[:min(len(payload), batchHeader-len(r.head))]...)
	if extra := len(r.tail) + len(payload) - markSize; extra > 0 {
		r.tail = r.tail[:copy(r.tail, r.tail[min(extra, len(r.tail)):])]
	}
	r.tail = append(r.tail, payload[max(0, len(payload)-markSize):]...)
}

func (r *logReader) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r.record.open, r.first, r.next = false, 0, 0
	r.file, r.gap = logNumber(filepath.Base(path)), false
	for offset := 0; ; {
		n, err := io.ReadFull(f, r.buf)
		for start := 0; start < n; start += logBlock {
			at := r.readBlock(r.buf[start:min(start+logBlock, n)])
			if at >= 0 {
				r.damaged(path, offset+start+at)
			}
		}
		offset += n
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if r.record.open {
				r.damaged(path, offset)
			}
			return nil
		case err != nil:
			return err
		}
	}
}

func (r *logReader) damaged(path string, at int) {
	if r.state.damage == "" {
		r.state.damage = fmt.Sprintf("byte %d of %s", at, filepath.Base(path))
	}
}

// readBlock reads the fragments of a block and returns where the first damage
// in it is, or -1. Behind damage it looks for the next sound fragment byte by
// byte, since the length of a damaged one means nothing.
func (r *logReader) readBlock(block []byte) int {
	damage, sound := -1, true
	for at := 0; at < len(block); {
		kind, payload, ok := r.fragment(block[at:])
		switch {
		case ok && r.accept(kind, payload):
			at += logFragmentHeader + len(payload)
			sound = true
			continue
		case ok:
			// It does not belong behind the fragment before it, one of which
			// is damaged: in this block, or at the end of the one before. Go on
			// with it, or behind it if it is the middle of what is lost.
			if damage < 0 {
				damage = at
			}
			if !r.record.open {
				at += logFragmentHeader + len(payload)
			}
			r.record.open, sound = false, true
			continue
		case sound && isZero(block[at:]):
			// The end of a block, or space that was allocated ahead. RocksDB
			// passes over it in silence; whether something is missing there,
			// the sequence numbers show.
			return damage
		case damage < 0:
			damage = at
		}
		r.record.open, sound = false, false
		at++
	}
	return damage
}

// fragment reads the fragment at the start of p.
func (r *logReader) fragment(p []byte) (kind byte, payload []byte, ok bool) {
	if len(p) < logFragmentHeader {
		return 0, nil, false
	}
	end := logFragmentHeader + int(binary.LittleEndian.Uint16(p[4:]))
	kind = p[6]
	if kind < fullFragment || kind > lastFragment || end > len(p) {
		return 0, nil, false
	}
	sum := crc.Sum(p[6:end])
	if (sum>>15|sum<<17)+0xa282ead8 != binary.LittleEndian.Uint32(p) {
		return 0, nil, false
	}
	return kind, p[logFragmentHeader:end], true
}

// accept adds a sound fragment, and finishes its record if it is the last of it.
// It returns false if the fragment cannot follow the one before.
func (r *logReader) accept(kind byte, payload []byte) bool {
	begins := kind == fullFragment || kind == firstFragment
	ends := kind == fullFragment || kind == lastFragment
	if begins {
		if r.record.open {
			// The one before never ended. Report it, and read this one again.
			return false
		}
		r.record.head, r.record.tail = r.record.head[:0], r.record.tail[:0]
	} else if !r.record.open {
		return false
	}
	r.record.open = !ends
	r.record.add(payload)
	if ends {
		r.finish()
	}
	return true
}

// finish evaluates a whole record.
func (r *logReader) finish() {
	if len(r.record.head) < batchHeader {
		return
	}
	sequence := binary.LittleEndian.Uint64(r.record.head)
	count := uint64(binary.LittleEndian.Uint32(r.record.head[8:]))
	if r.next != 0 && sequence > r.next && !r.gap {
		r.gap = true
		r.state.gaps = append(r.state.gaps, gap{in: r.file, behind: sequence})
	}
	if r.next == 0 {
		r.first = sequence
	}
	r.next = sequence + count
	if mark := r.record.tail; len(mark) == markSize && string(mark[:len(markMagic)]) == markMagic {
		r.state.durable = max(r.state.durable, binary.LittleEndian.Uint64(mark[len(markMagic):]))
	}
}

func isZero(p []byte) bool {
	return !slices.ContainsFunc(p, func(b byte) bool { return b != 0 })
}
