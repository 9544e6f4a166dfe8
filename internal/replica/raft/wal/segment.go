package wal

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/crc"
)

// A segment file begins with a header, and frames follow:
//
//	magic   8  segmentMagic
//	format  4
//	crc     4  CRC-32C of the rest
//	number  8
//	seed    8  at random: see frameSum
//	zeros      up to segmentHeader
const (
	segmentMagic  = "DKV-WAL\n"
	segmentHeader = 64
	segmentSuffix = ".wal"
)

// Format is the newest format of a segment that this release reads, and the one that it writes.
const Format = 1

// segment is a file of the log.
type segment struct {
	number uint64
	seed   uint64
	file   file
	size   int64
	// end is where the next frame goes, tail, once the log is read, where the last one begins.
	end, tail int64
	// blocks are the entries in it that are needed, live their length in bytes. Both are
	// guarded by Log.mu.
	blocks int
	live   int64
	// uses counts who reads from the file, and the log itself: the last closes it.
	uses atomic.Int32
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

// room is how far the segment is filled by what callers bring. The rest is for what is only in
// memory: it is saved there while the disk is too full for another segment, so that older ones can
// be given back.
func (s *segment) room() int64 { return s.size - s.size/16 }

// segmentNumber is the number in a file's name.
func segmentNumber(name string) (uint64, bool) {
	hex, is := strings.CutSuffix(name, segmentSuffix)
	if !is || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil
}

func newSegment(number uint64, f file, size int64) *segment {
	s := &segment{number: number, seed: rand.Uint64(), file: f, size: size}
	s.uses.Store(1)
	return s
}

// header is what the file begins with.
func (s *segment) header() []byte {
	h := make([]byte, segmentHeader)
	copy(h, segmentMagic)
	binary.LittleEndian.PutUint32(h[8:], Format)
	binary.LittleEndian.PutUint64(h[16:], s.number)
	binary.LittleEndian.PutUint64(h[24:], s.seed)
	binary.LittleEndian.PutUint32(h[12:], segmentSum(h))
	return h
}

func segmentSum(h []byte) uint32 {
	return crc.Extend(crc.Sum(h[:12]), h[16:32])
}

// begin reports whether h is the header of the segment, and takes the seed from it. The error
// is about a newer format.
func (s *segment) begin(h []byte) (bool, error) {
	if len(h) < segmentHeader || string(h[:8]) != segmentMagic || segmentSum(h) != binary.LittleEndian.Uint32(h[12:]) ||
		binary.LittleEndian.Uint64(h[16:]) != s.number {
		return false, nil
	}
	if format := binary.LittleEndian.Uint32(h[8:]); format > Format {
		return false, &NewerError{File: segmentName(s.number), Format: format}
	}
	s.seed = binary.LittleEndian.Uint64(h[24:])
	return true, nil
}

// NewerError is the error of Open if a newer release has written the log.
type NewerError struct {
	File   string
	Format uint32
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("%s has format %d, but this release reads formats up to %d", e.File, e.Format, Format)
}

// acquire keeps the file open until release. The caller holds Log.mu, under which the log
// still has the segment.
func (s *segment) acquire() { s.uses.Add(1) }

func (s *segment) release() error {
	if s.uses.Add(-1) == 0 {
		return s.file.Close()
	}
	return nil
}

// read returns n bytes at an offset.
func (s *segment) read(at int64, n int) ([]byte, error) {
	p := make([]byte, n)
	if _, err := s.file.ReadAt(p, at); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%s at %d: %w", segmentName(s.number), at, err)
	}
	return p, nil
}
