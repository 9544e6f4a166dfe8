package bench

import (
	"math/rand/v2"
)

// writeKey fills key with prefix and index as a decimal number that takes all
// the bytes left.
func writeKey(key []byte, prefix string, index uint64) {
	copy(key, prefix)
	for i := len(key) - 1; i >= len(prefix); i-- {
		key[i] = byte('0' + index%10)
		index /= 10
	}
}

// fitsDecimal reports whether n has at most the given number of digits.
func fitsDecimal(n uint64, digits int) bool {
	if digits < 1 {
		return false
	}
	for range digits {
		n /= 10
	}
	return n == 0
}

// values hands out values that cannot be compressed, without copying: each is
// a window into one block of random bytes. It is safe for concurrent use.
type values struct {
	block []byte
	size  int
}

// valueOffsets is how many different values there are.
const valueOffsets = 1 << 20

func newValues(size int, seed uint64) *values {
	v := &values{block: make([]byte, valueOffsets+size), size: size}
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	rand.NewChaCha8(key).Read(v.block) // never fails
	return v
}

// at returns the value of number n.
func (v *values) at(n uint64) []byte {
	offset := n % valueOffsets
	return v.block[offset : offset+uint64(v.size) : offset+uint64(v.size)]
}

// ofKey returns the value that preloading gives to the key with this index.
func (v *values) ofKey(index uint64) []byte { return v.at(scramble(index)) }

// scramble spreads neighbouring numbers: the finalizer of SplitMix64 (Steele,
// Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
func scramble(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
