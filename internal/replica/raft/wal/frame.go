package wal

import (
	"encoding/binary"

	"github.com/dkvdb/dkv/internal/crc"
)

// A frame is what was saved with one write: a header and records. The header:
//
//	magic   4  frameMagic
//	length  4  of the records
//	crc     4  CRC-32C of the segment's seed, of length and number, and of the records
//	head    4  CRC-32C of the segment's seed, of length and number
//	number  8  one more than that of the frame before it, across segments
//
// All numbers are little endian. A frame begins at a multiple of frameAlign.
const (
	frameMagic  = 0x464b5644 // "DVKF"
	frameHeader = 24
	frameAlign  = 8
)

// aligned is n rounded up to where a frame may begin.
func aligned(n int64) int64 { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// frameHead builds the header of a frame whose records are in parts.
func frameHead(seed, number uint64, parts [][]byte) []byte {
	h := make([]byte, frameHeader)
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	binary.LittleEndian.PutUint32(h, frameMagic)
	binary.LittleEndian.PutUint32(h[4:], uint32(length))
	binary.LittleEndian.PutUint64(h[16:], number)
	sum := frameSum(seed, h)
	binary.LittleEndian.PutUint32(h[12:], sum)
	for _, p := range parts {
		sum = crc.Extend(sum, p)
	}
	binary.LittleEndian.PutUint32(h[8:], sum)
	return h
}

// frameSum is the checksum of what precedes the records. The segment's seed is part of it: what
// is left in a file that is used again does not count as written, nor does a client's value
// that was made to look like a frame.
func frameSum(seed uint64, h []byte) uint32 {
	var s [8]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	sum := crc.Sum(s[:])
	sum = crc.Extend(sum, h[4:8])
	return crc.Extend(sum, h[16:frameHeader])
}

// frameBegins returns the number and the length of the frame whose header b begins with, or ok as
// false if it begins with none. It looks at no more than the header, so that a value full of
// what looks like headers costs nothing.
func frameBegins(seed uint64, b []byte) (number, length uint64, ok bool) {
	if len(b) < frameHeader || binary.LittleEndian.Uint32(b) != frameMagic || frameSum(seed, b) != binary.LittleEndian.Uint32(b[12:]) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[16:]), uint64(binary.LittleEndian.Uint32(b[4:])), true
}

// readFrame returns the records of the frame that b begins with and its number, or ok as
// false if there is no whole frame of the segment with that seed.
func readFrame(seed uint64, b []byte) (records []byte, number uint64, ok bool) {
	number, n, ok := frameBegins(seed, b)
	if !ok || n > uint64(len(b)-frameHeader) {
		return nil, 0, false
	}
	records = b[frameHeader : frameHeader+n]
	return records, number, crc.Extend(frameSum(seed, b), records) == binary.LittleEndian.Uint32(b[8:])
}
