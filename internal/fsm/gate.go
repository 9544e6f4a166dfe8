package fsm

import (
	"math"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/signal"
)

// gate admits readers until it is closed, and closing it waits until all readers have left.
// An engine handle must outlive every use of it: RocksDB would crash in C, where Go cannot
// recover. Entering costs one atomic addition.
type gate struct {
	// inside counts the readers; a closed gate has closedMark less.
	inside atomic.Int64
	// left is raised when the last reader may have left a closed gate.
	left signal.Signal
	// closer holds a token while a goroutine closes the gate; closed is set under it.
	closer chan struct{}
	closed bool
}

const closedMark = math.MaxInt64 / 2

func (g *gate) init() { g.closer = make(chan struct{}, 1) }

// enter reports whether the caller is admitted. If so it has to call leave.
func (g *gate) enter() bool {
	if g.inside.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.inside.Add(-1) == -closedMark {
		g.left.Raise()
	}
}

// open reports whether enter admits callers.
func (g *gate) open() bool { return g.inside.Load() >= 0 }

// close rejects new readers and waits for those inside. It may be called again.
func (g *gate) close() { g.tryClose(nil, nil) }

// tryClose closes the gate like close. If giveUp is closed first, it admits readers again and
// returns false. As soon as the gate rejects readers, tryClose calls turnOut, unless it is
// nil, which may make those inside leave.
func (g *gate) tryClose(giveUp <-chan struct{}, turnOut func()) bool {
	g.closer <- struct{}{}
	defer func() { <-g.closer }()
	if g.closed {
		return true
	}
	g.inside.Add(-closedMark)
	if turnOut != nil {
		turnOut()
	}
	// A reader that is rejected counts for a moment. It is enough that the gate is empty
	// once, since it admits no reader.
	for {
		left := g.left.Changed()
		if g.inside.Load() == -closedMark {
			break
		}
		select {
		case <-left:
		case <-giveUp:
			g.inside.Add(closedMark)
			return false
		}
	}
	g.closed = true
	return true
}
