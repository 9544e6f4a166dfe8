package server

import (
	"time"

	"golang.org/x/time/rate"
)

const (
	// resetsAtOnce is how many young calls of a connection its client may cancel at once,
	// which is twice as many as it may have open, and resetsPerSecond how many in the
	// long run.
	resetsAtOnce, resetsPerSecond = 2 * streamsPerConnection, 1000
	// memberResets is how many times as many a member of the cluster may cancel: it
	// forwards the calls of many clients over one connection, and their cancellations.
	memberResets = 8
	// youth is for how long a call that is cancelled counts. Calls that are begun only to
	// be cancelled are cancelled at once; deadlines are longer, and while a call is
	// open it takes one of the places of its connection.
	youth = time.Second
	// spans is how many times are kept to tell how long ago a call began, and span the
	// least time between two of them.
	spans, span = 6, youth / (spans - 1)
)

// resets bounds how many calls the client of a connection may begin and cancel. Such
// calls cost it a few bytes and no response, and nothing else bounds them: the place
// of one is free at once, though its handler has yet to notice. It is used by the
// goroutine that reads the connection.
type resets struct {
	limit *rate.Limiter
	// asked: whether the client is a member has been found out.
	asked bool
	// begun are the first calls of the last spans of time, the newest last. Calls are
	// numbered as they begin.
	begun [spans]struct {
		stream uint32
		at     time.Time
	}
}

func newResets() resets {
	return resets{limit: rate.NewLimiter(resetsPerSecond, resetsAtOnce)}
}

// began notes that a call has begun.
func (r *resets) began(stream uint32, now time.Time) {
	newest := &r.begun[spans-1]
	if now.Sub(newest.at) < span {
		return
	}
	copy(r.begun[:], r.begun[1:])
	newest.stream, newest.at = stream, now
}

// young reports whether a call began less than youth ago.
func (r *resets) young(stream uint32, now time.Time) bool {
	for i := spans - 1; i >= 0; i-- {
		if first := &r.begun[i]; stream >= first.stream {
			return now.Sub(first.at) < youth
		}
	}
	return false
}

// allow notes that a call is cancelled, and reports whether the client has kept to the
// limit. member is asked, once, when it is beyond that of other clients.
func (r *resets) allow(stream uint32, now time.Time, member func() bool) bool {
	if !r.young(stream, now) || r.limit.AllowN(now, 1) {
		return true
	}
	if r.asked || !member() {
		r.asked = true
		return false
	}
	r.asked = true
	r.limit = rate.NewLimiter(memberResets*resetsPerSecond, memberResets*resetsAtOnce)
	return r.limit.AllowN(now, 1)
}
