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
	"context"
	"net/netip"
	"slices"
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

// line is who waits on behalf of one connection, the first one first. Each is told that
// it has a place by closing its channel.
type line struct{ waiting []chan struct{} }

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
	turn := make(chan struct{})
	l := g.line(of)
	l.waiting = append(l.waiting, turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	if g.giveUp(of, turn) {
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
	from, h := g.hosts.next()
	conn, l := h.conns.next()
	close(l.waiting[0])
	l.waiting = l.waiting[1:]
	g.tidy(kv.Client{Host: from, Conn: conn}, h, l)
}

// line returns the line of a client, made if there is none. The caller holds mu.
func (g *Gate) line(of kv.Client) *line {
	h := g.hosts.get(of.Host, func() *host { return &host{} })
	return h.conns.get(of.Conn, func() *line { return &line{} })
}

// giveUp leaves a line. It reports false if the place was given just now.
func (g *Gate) giveUp(of kv.Client, turn chan struct{}) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	h, waits := g.hosts.of[of.Host]
	if !waits {
		return false
	}
	l, waits := h.conns.of[of.Conn]
	if !waits {
		return false
	}
	i := slices.Index(l.waiting, turn)
	if i < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	g.tidy(of, h, l)
	return true
}

// tidy forgets a line in which no one waits. The caller holds mu.
func (g *Gate) tidy(of kv.Client, h *host, l *line) {
	if len(l.waiting) > 0 {
		return
	}
	if h.conns.drop(of.Conn); h.conns.none() {
		g.hosts.drop(of.Host)
	}
}
