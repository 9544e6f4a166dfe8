// Package compress compresses what replication sends between data centres, by zstd, and counts
// the bytes before and after.
package compress

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// Least is how many bytes are worth compressing.
const Least = 256

// maxPlain bounds what Decode makes of a message: a page of changes is less, unless a single
// batch is larger.
const maxPlain = 1 << 30

// Both are safe for concurrent use and start no goroutines for whole blocks.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err) // its options are constants
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPlain))
		if err != nil {
			panic(err) // its options are constants
		}
		return d
	})
)

// Encode compresses bytes; nil if that is not worth it.
func Encode(plain []byte) []byte {
	if len(plain) < Least {
		return nil
	}
	out := encoder().EncodeAll(plain, make([]byte, 0, len(plain)/2))
	if len(out) >= len(plain) {
		return nil
	}
	return out
}

// Decode returns what Encode was given.
func Decode(compressed []byte) ([]byte, error) {
	plain, err := decoder().DecodeAll(compressed, nil)
	if err != nil {
		return nil, fmt.Errorf("what was sent compressed cannot be read: %w", err)
	}
	return plain, nil
}

// Counter counts bytes before and after compression.
type Counter struct{ before, after atomic.Uint64 }

// Add counts a message.
func (c *Counter) Add(before, after int) {
	c.before.Add(uint64(before))
	c.after.Add(uint64(after))
}

// Bytes returns the sums.
func (c *Counter) Bytes() (before, after uint64) { return c.before.Load(), c.after.Load() }
