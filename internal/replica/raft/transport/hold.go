package transport

import (
	"time"

	"github.com/lni/dragonboat/v4/raftpb"
)

const (
	// holdTime is how long a commit index waits at most for a message that it can go with.
	holdTime = 2 * time.Millisecond
	// fewestQuick is how many commit indexes in a row something else must have followed within
	// holdTime, before the next one is held. Each that was held in vain doubles it, up to
	// mostQuick.
	fewestQuick, mostQuick = 4, 1 << 12
)

// hold keeps messages that only say how far the log is committed, while it is likely that
// something else goes the same way at once. Under load that is mostly the next entries of the
// same log, which say the same: then the message is not sent at all, nor answered.
type hold struct {
	// held are the messages, at most one of each log for each replica.
	held []raftpb.Message
	// since is when the oldest of held came or, if there is none, when one was sent by itself;
	// zero if something else has been sent since then.
	since time.Time
	// quick is how many in a row were followed by something else within holdTime, and needed
	// how many there must be until one is held.
	quick, needed int
	// out is the buffer of what take returns.
	out []raftpb.Message
}

// take returns what is to be sent now that some messages are: they, with what was held and is not
// said by them, or nothing, if they are held. The result is valid until sent is called.
func (h *hold) take(now time.Time, messages []raftpb.Message) []raftpb.Message {
	if onlyCommits(messages) {
		return h.commits(now, messages)
	}
	if !h.since.IsZero() {
		h.followed(now.Sub(h.since) < holdTime)
	}
	h.since = time.Time{}
	if len(h.held) == 0 {
		return messages
	}
	for i := range h.held {
		if !said(&h.held[i], messages) {
			h.out = append(h.out, h.held[i])
		}
	}
	h.held = h.held[:0]
	h.out = append(h.out, messages...)
	return h.out
}

// sent forgets the messages that take returned last, sent or not: what they carry is as large as a frame.
func (h *hold) sent() {
	clear(h.out)
	h.out = h.out[:0]
}

// commits takes messages that only say how far logs are committed.
func (h *hold) commits(now time.Time, messages []raftpb.Message) []raftpb.Message {
	if h.quick < max(h.needed, fewestQuick) {
		if h.since.IsZero() {
			h.since = now
		} else if now.Sub(h.since) >= holdTime {
			h.quick, h.since = 0, now
		}
		return messages
	}
	if len(h.held) == 0 {
		h.since = now
	}
	for i := range messages {
		h.keep(&messages[i])
	}
	return nil
}

// keep holds a message, in place of an earlier one that it repeats.
func (h *hold) keep(m *raftpb.Message) {
	for i := range h.held {
		if repeats(m, &h.held[i]) {
			h.held[i] = *m
			return
		}
	}
	h.held = append(h.held, *m)
}

// followed notes whether something else came soon enough behind a commit index.
func (h *hold) followed(soon bool) {
	if !soon {
		h.quick = 0
		return
	}
	h.quick++
	if len(h.held) > 0 {
		h.needed = max(h.needed-1, fewestQuick)
	}
}

// overdue returns what was held for too long by now, and has to be sent by itself. If that is
// not yet, left is when.
func (h *hold) overdue(now time.Time) (late []raftpb.Message, left time.Duration) {
	if len(h.held) == 0 {
		return nil, 0
	}
	if left := holdTime - now.Sub(h.since); left > 0 {
		return nil, left
	}
	late, h.held = h.held, h.held[:0] // the next one is held after late was sent, if at all
	h.since = time.Time{}
	h.quick, h.needed = 0, min(2*max(h.needed, fewestQuick), mostQuick)
	return late, 0
}

func onlyCommits(messages []raftpb.Message) bool {
	for i := range messages {
		if m := &messages[i]; m.Type != raftpb.Replicate || len(m.Entries) > 0 {
			return false
		}
	}
	return len(messages) > 0
}

// said reports whether what m says is said by others.
func said(m *raftpb.Message, others []raftpb.Message) bool {
	for i := range others {
		if repeats(&others[i], m) {
			return true
		}
	}
	return false
}

// repeats reports whether a message says what an earlier one says of how far a log is committed,
// to the same replica.
func repeats(m, earlier *raftpb.Message) bool {
	return m.Type == raftpb.Replicate && m.ShardID == earlier.ShardID && m.From == earlier.From && m.To == earlier.To &&
		m.Term == earlier.Term && m.Commit >= earlier.Commit
}
