package server

import "testing"

// What is counted for a message is about what its buffer takes.
func TestBuffersFitTheirMessages(t *testing.T) {
	for n := 256; n < 16<<20; n += n/7 + 1 {
		buf := buffers.Get(n)
		if got := cap(*buf); got > n*3/2+1 {
			t.Errorf("a message of %d bytes takes a buffer of %d", n, got)
		}
		buffers.Put(buf)
	}
}
