// Package fair bounds how much is under way at once, and shares that bound out among
// those who ask for it: a client that asks for thousands of things waits in a line of its
// own, and another one's first request is the next but few, not the last of all.
//
// # Lines
//
// A Gate has a number of places. While one is free it is given at once. When none is,
// each asker waits in the line of its connection, and the lines of a host's connections
// take turns, as the hosts do. So a host with a hundred connections gets no more than one
// with a single connection, and behind a proxy, where all clients are one host, a
// connection gets no more than another one.
//
// # What it is not
//
// It knows no weights and no rates, and takes nothing back: a place is kept until
// Leave. It suits work of a few milliseconds that waits for nothing but the disk
// or the processor.
package fair

import (
	"container/list"
	"context"
	"net/netip"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
)

// Gate bounds what is under way. It is safe for concurrent use.
type Gate struct {
	mu    sync.Mutex
	free  int
	hosts turns[netip.Addr, *host]
}

// host is the lines of a host's connections.
type host struct {
	conns turns[uint64, *line]
}

// line is who waits on behalf of one connection, the first one first.
type line struct{ waiting list.List } // of *waiter

// waiter is one that waits in a line.
type waiter struct {
	of    kv.Client
	host  *host
	line  *line
	place *list.Element // in the line; nil once turn is closed
	turn  chan struct{} // closed when it has a place
}

// New makes a gate of so many places.
func New(places int) *Gate { return &Gate{free: places} }

// Enter takes a place once there is one, and returns ctx's error if that ends first. A
// free place is given even if ctx has ended. Each Enter that returns nil needs a Leave.
func (g *Gate) Enter(ctx context.Context, of kv.Client) error {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return nil
	}
	w := g.wait(of)
	g.mu.Unlock()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
	}
	if g.giveUp(w) {
		return context.Cause(ctx)
	}
	return nil
}

// Leave gives a place to the next one that waits, or frees it.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hosts.none() {
		g.free++
		return
	}
	w := g.hosts.next().conns.next().waiting.Front().Value.(*waiter)
	g.remove(w)
	close(w.turn)
}

// wait puts a client into its line, which is made if there is none. The caller holds mu.
func (g *Gate) wait(of kv.Client) *waiter {
	h := g.hosts.get(of.Host, func() *host { return &host{} })
	l := h.conns.get(of.Conn, func() *line { return &line{} })
	w := &waiter{of: of, host: h, line: l, turn: make(chan struct{})}
	w.place = l.waiting.PushBack(w)
	return w
}

// giveUp leaves a line. It reports false if the place was given just now.
func (g *Gate) giveUp(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.place == nil {
		return false
	}
	g.remove(w)
	return true
}

// remove takes a waiter out of its line, and forgets lines in which no one waits. The
// caller holds mu.
func (g *Gate) remove(w *waiter) {
	w.line.waiting.Remove(w.place)
	w.place = nil
	if w.line.waiting.Len() > 0 {
		return
	}
	if w.host.conns.drop(w.of.Conn); w.host.conns.none() {
		g.hosts.drop(w.of.Host)
	}
}
