package replication

import (
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm"
)

const (
	// transitBytes is what the messages of all streams that were not sent yet may hold
	// together. It is separate from the memory of requests: a slow slave must not take
	// that from clients.
	transitBytes = 64 << 20
	// tightBytes is what a message holds when that much is taken, unless a single change is
	// larger: slow receivers then cost little, and no other stream waits for them.
	tightBytes = 30 << 10
)

// transit counts the bytes that the streams of a node are sending.
type transit struct{ taken atomic.Int64 }

// share is what one stream has taken of a transit. A nil transit is unlimited.
type share struct {
	of *transit
	// making is taken by the message that is being made, sent by the one before it.
	making, sent int64
}

// take reserves memory for the next message, and returns how many bytes it may hold, up to
// most.
func (s *share) take(most int) int {
	s.holds(int64(most))
	if s.of == nil || s.of.taken.Load() <= transitBytes {
		return most
	}
	s.holds(0)
	return tightBytes
}

// holds records how many bytes the message that is being made takes.
func (s *share) holds(bytes int64) {
	if s.of != nil {
		s.of.taken.Add(bytes - s.making)
	}
	s.making = bytes
}

// left records that gRPC has accepted the message. gRPC does so once most of the one before it
// was sent, and holds it for as long as the receiver is slow.
func (s *share) left() {
	if s.of != nil {
		s.of.taken.Add(-s.sent)
	}
	s.sent, s.making = s.making, 0
}

// end gives everything back.
func (s *share) end() {
	s.left()
	s.left()
}

// bytesOf estimates what a stretch takes as a message.
func bytesOf(c *fsm.Changes) int64 {
	n := 0
	for i := range c.Changes {
		n += changelog.MessageBytes(c.Changes[i].Mutations)
		if c.Changes[i].Request != nil {
			n += changelog.RequestBytes
		}
	}
	return int64(n)
}
