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
// Who asks for more than one place waits until there are that many, and no one whose turn
// comes later is served before: otherwise there might never be as many.
//
// # What it is not
//
// It knows no weights and no rates, and takes nothing back: a place is kept until
// Leave. It suits work that waits for nothing but the disk or the processor.
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
	places int
	mu     sync.Mutex
	free   int
	hosts  turns[netip.Addr, *host]
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
	n     int // places
	host  *host
	line  *line
	place *list.Element // in the line; nil once turn is closed
	turn  chan struct{} // closed when it has a place
}

// New makes a gate of so many places.
func New(places int) *Gate { return &Gate{places: places, free: places} }

// Enter takes a place once there is one, and returns ctx's error if that ends first. A
// free place is given even if ctx has ended. Each Enter that returns nil needs a Leave.
func (g *Gate) Enter(ctx context.Context, of kv.Client) error { return g.EnterAs(ctx, of, 1) }

// EnterAs is Enter for one that takes n places, or all if the gate has fewer. It needs a
// LeaveAs of the same n.
func (g *Gate) EnterAs(ctx context.Context, of kv.Client, n int) error {
	if g.TryEnterAs(n) {
		return nil
	}
	g.mu.Lock()
	w := g.wait(of, n)
	g.serve() // what was free may suffice by now
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

// TryEnterAs is EnterAs if that has not to wait, and reports whether it had not.
func (g *Gate) TryEnterAs(n int) bool {
	n = g.most(n)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free < n || !g.hosts.none() {
		return false
	}
	g.free -= n
	return true
}

// Leave gives a place to the next one that waits, or frees it.
func (g *Gate) Leave() { g.LeaveAs(1) }

// LeaveAs is Leave for one that has entered with n places.
func (g *Gate) LeaveAs(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free += g.most(n)
	g.serve()
}

// most is how many places one gets that needs n. A gate without any lets no one in.
func (g *Gate) most(n int) int { return min(n, max(g.places, 1)) }

// serve gives places to those whose turn it is, as long as there are enough. The caller
// holds mu.
func (g *Gate) serve() {
	for !g.hosts.none() {
		w := g.hosts.first().conns.first().waiting.Front().Value.(*waiter)
		if w.n > g.free {
			return
		}
		g.free -= w.n
		g.hosts.pass()
		w.host.conns.pass()
		g.remove(w)
		close(w.turn)
	}
}

// wait puts a client into its line, which is made if there is none. The caller holds mu.
func (g *Gate) wait(of kv.Client, n int) *waiter {
	h := g.hosts.get(of.Host, func() *host { return &host{} })
	l := h.conns.get(of.Conn, func() *line { return &line{} })
	w := &waiter{of: of, n: g.most(n), host: h, line: l, turn: make(chan struct{})}
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
	g.serve() // those behind it may need fewer places
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
