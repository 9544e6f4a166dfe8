package rocksdb

import (
	"math/rand/v2"
	"testing"

	"github.com/dkvdb/dkv/internal/crc"
)

// RocksDB's checksum of its log may be one of DKV's own: it is the same for any length and
// any address, and continues like it.
func TestLogChecksum(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]byte, 4<<10)
	for i := range all {
		all[i] = byte(random.Uint32())
	}
	for n := range 300 {
		for at := range 9 {
			p := all[at : at+n]
			if got, want := extendCRC(0, p), crc.Sum(p); got != want {
				t.Fatalf("%d bytes at %d: %#x, want %#x", n, at, got, want)
			}
		}
	}
	for range 1000 {
		first, end := random.IntN(len(all)), random.IntN(len(all)+1)
		first, end = min(first, end), max(first, end)
		if got, want := extendCRC(extendCRC(0, all[:first]), all[first:end]), crc.Sum(all[:end]); got != want {
			t.Fatalf("%d and %d bytes: %#x, want %#x", first, end-first, got, want)
		}
	}
}

func BenchmarkLogChecksum(b *testing.B) {
	p := make([]byte, 4<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		extendCRC(0, p)
	}
}
