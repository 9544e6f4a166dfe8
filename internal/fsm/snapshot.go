package fsm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/dkvdb/dkv/internal/storage"
)

// A snapshot stream carries a state between engines of any kind: all spaces
// but the changelog, whose numbers begin anew behind it.
//
//	magic   8 bytes
//	chunk*  length (4, little endian), CRC-32C of the payload (4), payload
//	end     a chunk of length 0, whose CRC field counts the chunks
//
// A payload is records: space (1 byte), then key and value with their varint
// lengths in front.
// The last byte of the magic is the stream's format, a digit.
var snapshotMagic = [8]byte{'D', 'K', 'V', 's', 'n', 'a', 'p', '1'}

const (
	snapshotChunk = 256 << 10
	// maxSnapshotChunk is the longest that a chunk can be: one record may be longer
	// than snapshotChunk.
	maxSnapshotChunk = 1 << 30
)

var snapshotSpaces = []storage.Space{storage.Data, storage.Expiry, storage.Meta}

// ErrBadSnapshot means that a snapshot stream is damaged or cut short.
var ErrBadSnapshot = errors.New("snapshot is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteSnapshot writes the view's state to w.
func (v *View) WriteSnapshot(ctx context.Context, w io.Writer) error {
	bw := bufio.NewWriterSize(w, snapshotChunk)
	if _, err := bw.Write(snapshotMagic[:]); err != nil {
		return err
	}
	s := chunkWriter{w: bw}
	if err := s.view(ctx, v); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return bw.Flush()
}

type chunkWriter struct {
	w      io.Writer
	buf    []byte
	chunks uint32
}

// view writes all chunks of a view, and the end.
func (s *chunkWriter) view(ctx context.Context, v *View) error {
	var position []byte
	for {
		var err error
		if s.buf, position, err = v.appendChunk(s.buf, position, snapshotChunk); err != nil {
			return err
		}
		if len(position) == 0 {
			return s.finish()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
}

func (s *chunkWriter) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	if err := s.chunk(uint32(len(s.buf)), crc32.Checksum(s.buf, castagnoli)); err != nil {
		return err
	}
	s.chunks++
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

func (s *chunkWriter) finish() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.chunk(0, s.chunks)
}

func (s *chunkWriter) chunk(length, check uint32) error {
	var h [8]byte
	binary.LittleEndian.PutUint32(h[:], length)
	binary.LittleEndian.PutUint32(h[4:], check)
	_, err := s.w.Write(h[:])
	return err
}

// ReadSnapshot fills an empty engine with the snapshot in r, durably. After an
// error, ErrBadSnapshot among them, the engine holds a part and is worthless: its
// identity comes last, so that New does not take it for a state.
func ReadSnapshot(ctx context.Context, r io.Reader, engine storage.Engine) error {
	br := bufio.NewReaderSize(r, snapshotChunk)
	var magic [8]byte
	if _, err := io.ReadFull(br, magic[:]); err != nil {
		return fmt.Errorf("%w: it does not begin as a snapshot does", ErrBadSnapshot)
	}
	if err := CheckMagic("the snapshot", magic, snapshotMagic); err != nil {
		return err
	}
	load := NewLoader(engine)
	var payload []byte
	for chunks := uint32(0); ; chunks++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		var last bool
		if payload, last, err = readChunk(br, payload, chunks); err != nil {
			return err
		}
		if last {
			return load.Finish()
		}
		if err := load.Add(payload); err != nil {
			return fmt.Errorf("chunk %d: %w", chunks, err)
		}
	}
}

// CheckMagic compares the 8 bytes that a stream begins with to those that are known here. The
// last one is the format, a digit: a greater one is a storage.ErrNewer that names what it is,
// everything else an ErrBadSnapshot.
func CheckMagic(what string, got, known [8]byte) error {
	const last = len(known) - 1
	switch format := got[last]; {
	case got == known:
		return nil
	case [last]byte(got[:last]) == [last]byte(known[:last]) && format > known[last] && format <= '9':
		return storage.Newer(what, uint64(format-'0'), uint64(known[last]-'0'))
	default:
		return fmt.Errorf("%w: it begins with %q, not with %q", ErrBadSnapshot, got, known)
	}
}

func readChunk(r io.Reader, buf []byte, chunks uint32) (payload []byte, last bool, err error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, false, fmt.Errorf("%w: it ends after %d chunks: %w", ErrBadSnapshot, chunks, err)
	}
	length, check := binary.LittleEndian.Uint32(h[:]), binary.LittleEndian.Uint32(h[4:])
	if length == 0 {
		if check != chunks {
			return nil, false, fmt.Errorf("%w: %d chunks of %d", ErrBadSnapshot, chunks, check)
		}
		return nil, true, nil
	}
	if length > maxSnapshotChunk {
		return nil, false, fmt.Errorf("%w: chunk %d claims %d bytes", ErrBadSnapshot, chunks, length)
	}
	if buf, err = readN(r, buf[:0], int(length)); err != nil {
		return nil, false, fmt.Errorf("%w: chunk %d is cut short: %w", ErrBadSnapshot, chunks, err)
	}
	if crc32.Checksum(buf, castagnoli) != check {
		return nil, false, fmt.Errorf("%w: chunk %d fails its checksum", ErrBadSnapshot, chunks)
	}
	return buf, false, nil
}

// readN appends n bytes of r to buf. It reserves memory as they come, so that a
// damaged length costs no more than the bytes that there are.
func readN(r io.Reader, buf []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, max(len(buf), snapshotChunk))
		start := len(buf)
		buf = slices.Grow(buf, step)[:start+step]
		if _, err := io.ReadFull(r, buf[start:]); err != nil {
			return nil, err
		}
		n -= step
	}
	return buf, nil
}
