package fsm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/dkvdb/dkv/internal/changelog"
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
var snapshotMagic = [8]byte{'D', 'K', 'V', 's', 'n', 'a', 'p', '1'}

const (
	snapshotChunk = 256 << 10
	// maxSnapshotChunk is the longest that a chunk can be: it holds at most one
	// record beyond snapshotChunk.
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
	for _, space := range snapshotSpaces {
		if err := s.space(ctx, v.view, space); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
	}
	if err := s.finish(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return bw.Flush()
}

type chunkWriter struct {
	w      io.Writer
	buf    []byte
	chunks uint32
}

func (s *chunkWriter) space(ctx context.Context, r storage.Reader, space storage.Space) error {
	it := r.Iterate(space, storage.Range{Bulk: true})
	defer it.Close()
	for it.Next() {
		if space == storage.Meta && string(it.Key()) == string(keyFloor) {
			continue // the changelog stays behind, and its floor with it
		}
		s.buf = append(s.buf, byte(space))
		s.buf = binary.AppendUvarint(s.buf, uint64(len(it.Key())))
		s.buf = append(s.buf, it.Key()...)
		s.buf = binary.AppendUvarint(s.buf, uint64(len(it.Value())))
		s.buf = append(s.buf, it.Value()...)
		if len(s.buf) < snapshotChunk {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
	return it.Err()
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
	if _, err := io.ReadFull(br, magic[:]); err != nil || magic != snapshotMagic {
		return fmt.Errorf("%w: it does not begin as a snapshot does", ErrBadSnapshot)
	}
	load := snapshotLoad{engine: engine}
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
			break
		}
		load.batch.Reset()
		if err := load.add(payload); err != nil {
			return fmt.Errorf("%w: chunk %d: %w", ErrBadSnapshot, chunks, err)
		}
		if err := engine.Write(&load.batch, false); err != nil {
			return fmt.Errorf("read snapshot: %w", err)
		}
	}
	if err := load.seal(); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	return nil
}

// snapshotLoad is an engine being filled.
type snapshotLoad struct {
	engine storage.Engine
	batch  storage.Batch
	// identity is the identity record, which waits for all the others.
	identity []byte
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

// add puts a payload's records into the batch.
func (l *snapshotLoad) add(p []byte) error {
	take := func() ([]byte, bool) {
		n, w := binary.Uvarint(p)
		if w <= 0 || n > uint64(len(p)-w) {
			return nil, false
		}
		v := p[w : w+int(n)]
		p = p[w+int(n):]
		return v, true
	}
	for len(p) > 0 {
		space := storage.Space(p[0])
		p = p[1:]
		key, ok1 := take()
		value, ok2 := take()
		if !ok1 || !ok2 || space >= storage.Spaces || space == storage.Changelog {
			return errors.New("malformed record")
		}
		if space == storage.Meta && string(key) == string(keyIdentity) {
			l.identity = bytes.Clone(value)
			continue
		}
		l.batch.Put(space, key, value)
	}
	return nil
}

// seal makes all that was read a state: it adds the identity, puts the
// changelog's floor behind the snapshot and makes everything durable.
func (l *snapshotLoad) seal() error {
	st, err := readState(l.engine)
	if err == nil {
		_, err = decodeIdentity(l.identity)
	}
	if errors.Is(err, storage.ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	if err != nil {
		return err
	}
	// What came before must not be lost where the identity is not.
	if err := l.engine.Sync(); err != nil {
		return err
	}
	l.batch.Reset()
	l.batch.Put(storage.Meta, keyIdentity, l.identity)
	l.batch.Put(storage.Meta, keyFloor, changelog.Key(st.applied+1))
	return l.engine.Write(&l.batch, true)
}
