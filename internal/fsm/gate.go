package fsm

import (
	"math"
	"sync"
	"sync/atomic"
)

// gate lets readers in until it is closed, and lets the closer wait until all
// are out. An engine handle must outlive every use of it: RocksDB would crash
// in C, out of Go's reach. Entering costs one atomic addition.
type gate struct {
	// inside counts the readers; closing subtracts closedMark.
	inside atomic.Int64
	once   sync.Once
	empty  chan struct{}
}

const closedMark = math.MaxInt64 / 2

func (g *gate) init() { g.empty = make(chan struct{}) }

// enter tells whether the caller is let in; it then must leave.
func (g *gate) enter() bool {
	if g.inside.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	// Below zero the gate is closed; the last one out tells. A caller that
	// was turned away passes here too, so the mark may be reached again later:
	// only the first arrival counts.
	if g.inside.Add(-1) == -closedMark {
		g.once.Do(func() { close(g.empty) })
	}
}

// close turns away new readers and waits for those inside.
func (g *gate) close() {
	for {
		n := g.inside.Load()
		if n < 0 {
			break
		}
		if g.inside.CompareAndSwap(n, n-closedMark) {
			if n == 0 {
				g.once.Do(func() { close(g.empty) })
			}
			break
		}
	}
	<-g.empty
}
