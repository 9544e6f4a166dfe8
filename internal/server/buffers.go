package server

import (
	"slices"
	"sync"

	"google.golang.org/grpc/mem"
)

// buffers are what messages are encoded into and received in. gRPC's own come in five
// sizes: a message of 33 KiB takes one of a megabyte, which no limit would see. And they
// are cleared each time, which takes as long as filling them: large messages
// would cost twice their time.
var buffers mem.BufferPool = newBuffers()

// tiers is a pool of which no buffer is half as large again as what it is for, and
// those for values of a power of two, with their keys, are hardly larger at all. What
// a buffer had in it before is there still: gRPC and encode use no more of it than they
// have written.
type tiers struct {
	sizes []int // ascending
	pools []sync.Pool
}

// largestBuffer is the size from which buffers are not kept.
const largestBuffer = 16 << 20

func newBuffers() *tiers {
	t := &tiers{}
	for n := 256; n <= largestBuffer; n *= 2 {
		t.sizes = append(t.sizes, n, n+n/8, n+n/2)
	}
	t.pools = make([]sync.Pool, len(t.sizes))
	return t
}

// Get implements mem.BufferPool.
func (t *tiers) Get(n int) *[]byte {
	i, _ := slices.BinarySearch(t.sizes, n)
	if i == len(t.sizes) {
		out := make([]byte, n)
		return &out
	}
	if out, kept := t.pools[i].Get().(*[]byte); kept {
		*out = (*out)[:n]
		return out
	}
	out := make([]byte, n, t.sizes[i])
	return &out
}

// Put implements mem.BufferPool.
func (t *tiers) Put(buf *[]byte) {
	if i, ours := slices.BinarySearch(t.sizes, cap(*buf)); ours {
		t.pools[i].Put(buf)
	}
}
