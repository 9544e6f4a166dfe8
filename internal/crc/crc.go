// Package crc is the one checksum of what DKV writes to files and sends in
// chunks: CRC-32C, the Castagnoli polynomial, which processors compute.
package crc

import (
	"hash"
	"hash/crc32"
)

// Size is the length of a checksum in bytes.
const Size = crc32.Size

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the checksum of p.
func Sum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// Extend is the checksum of what sum is the checksum of, with p behind it.
func Extend(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// New computes the checksum of what is written to it.
func New() hash.Hash32 { return crc32.New(castagnoli) }
