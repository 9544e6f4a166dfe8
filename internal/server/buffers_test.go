package server

import (
	"bytes"
	"testing"
)

// What is counted for a message is about what its buffer takes.
func TestBuffersFitTheirMessages(t *testing.T) {
	for n := 256; n < largestBuffer; n += n/7 + 1 {
		buf := buffers.Get(n)
		if got := cap(*buf); len(*buf) != n || got > n*3/2+1 {
			t.Errorf("a message of %d bytes takes a buffer of %d", n, got)
		}
		buffers.Put(buf)
	}
	for _, n := range []int{0, largestBuffer * 2} {
		if buf := buffers.Get(n); len(*buf) != n {
			t.Errorf("a message of %d bytes gets a buffer of %d", n, len(*buf))
		}
	}
}

// Buffers are used again as they are: clearing one takes as long as filling it.
func TestBuffersAreNotCleared(t *testing.T) {
	const size = 1 << 20
	mark := bytes.Repeat([]byte{1}, size)
	for range 1000 { // a pool may drop some
		buf := buffers.Get(size)
		if (*buf)[0] == 1 && bytes.Equal(*buf, mark) {
			return
		}
		copy(*buf, mark)
		buffers.Put(buf)
	}
	t.Error("no buffer comes back as it was")
}
