package fsm

import (
	"math"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/signal"
)

// gate lets readers in until it is closed, and lets the closer wait until all
// are out. An engine handle must outlive every use of it: RocksDB would crash
// in C, out of Go's reach. Entering costs one atomic addition.
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

// enter tells whether the caller is let in; it then must leave.
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

// open tells whether enter lets callers in at present.
func (g *gate) open() bool { return g.inside.Load() >= 0 }

// close turns away new readers and waits for those inside. It may be called
// again.
func (g *gate) close() { g.tryClose(nil, nil) }

// tryClose is close until giveUp is done; after that it lets readers in again and
// returns false. Once no one is let in any more it calls turnOut, if there is one,
// which may have those inside leave.
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
	// A reader that is turned away counts for a moment. That the gate is empty once is
	// enough, since it lets no reader in.
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
