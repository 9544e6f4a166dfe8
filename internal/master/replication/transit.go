package replication

import (
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm"
)

const (
	// transitBytes is how much the messages of all streams may hold together that
	// have not left yet. It is apart from what requests may take: a slow slave is
	// not to cost clients theirs.
	transitBytes = 64 << 20
	// tightBytes is what a message holds where as much is taken already, if no
	// change is larger: slow receivers then cost little, and nobody has to wait for
	// them.
	tightBytes = 30 << 10
)

// transit counts the bytes that the streams of a node are sending.
type transit struct{ taken atomic.Int64 }

// share is what one stream has of a transit. A nil transit is without bound.
type share struct {
	of *transit
	// making is taken for the message that is being made, sent by the one before.
	making, sent int64
}

// take reserves room for the next message and returns how many bytes it may have,
// at most most.
func (s *share) take(most int) int {
	s.holds(int64(most))
	if s.of == nil || s.of.taken.Load() <= transitBytes {
		return most
	}
	s.holds(0)
	return tightBytes
}

// holds says how many bytes the message has that is being made.
func (s *share) holds(bytes int64) {
	if s.of != nil {
		s.of.taken.Add(bytes - s.making)
	}
	s.making = bytes
}

// left tells that gRPC has taken the message. It does so once the one before is
// all but gone, and keeps it for as long as its receiver is slow.
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

// bytesOf is about what a stretch takes as a message.
func bytesOf(c *fsm.Changes) int64 {
	n := 0
	for i := range c.Changes {
		n += changelog.MessageBytes(c.Changes[i].Mutations)
	}
	return int64(n)
}
