// Package conns bounds how many connections a listener has, in all and from one
// host. Without a bound, one client that opens connections takes every file descriptor
// of the process, and with them the ability to write: storage has to open files.
//
// A connection beyond a bound replaces an idle one, if there is any: those whose handshake is
// unfinished come first, then those that have never been used, then those that have been
// idle for longest. If none is idle, the new one is refused with a few bytes that say why.
package conns

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// minIdle is how long a connection must have been idle before it may be displaced: a
	// client needs some time for its first call.
	minIdle = time.Second
	// searchEvery bounds how often all connections are searched for an idle one.
	searchEvery = 5 * time.Millisecond
	// logEvery bounds how often the log says that connections are refused.
	logEvery = 10 * time.Second
)

// Options are the options of a Listener.
type Options struct {
	// Max bounds the connections in all, MaxPerHost those from one address (of
	// IPv6, from one /64 network, which is what a host gets). 0 is no bound.
	Max, MaxPerHost int
	// Key and HostKey name the settings behind the two, for errors and the log.
	Key, HostKey string
	// Refusal returns what a connection is sent before it is closed; nil sends
	// nothing.
	Refusal func(reason string) []byte
	// Handshake: connections begin with a handshake, which Conn.Ready ends.
	Handshake bool
	// Spare keeps a file descriptor back, so that one connection at a time can be
	// served when the process has no others left.
	Spare bool
	Log   *slog.Logger
}

// Stats counts connections.
type Stats struct {
	// Open is how many there are now.
	Open int
	// Refused were closed at once, Displaced were closed to make room for others.
	Refused, Displaced uint64
}

// Listener is a net.Listener whose connections, of type *Conn, are bounded.
type Listener struct {
	net.Listener
	opts               Options
	refused, displaced atomic.Uint64
	spare              *spare

	mu       sync.Mutex
	conns    map[*Conn]struct{}
	hosts    map[netip.Addr]int
	searched time.Time
	logged   time.Time
	quiet    uint64 // refused since then
}

// Limit bounds the connections of a listener.
func Limit(l net.Listener, opts Options) *Listener {
	out := &Listener{Listener: l, opts: opts, conns: make(map[*Conn]struct{}), hosts: make(map[netip.Addr]int)}
	if opts.Spare {
		out.spare = newSpare()
	}
	return out
}

// Stats returns the counts.
func (l *Listener) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{Open: len(l.conns), Refused: l.refused.Load(), Displaced: l.displaced.Load()}
}

// Accept waits for a connection for which there is room.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		onSpare := false
		if outOfFiles(err) {
			c, onSpare, err = l.acceptInNeed(err)
		}
		if err != nil {
			return nil, err
		}
		if admitted := l.admit(c, onSpare); admitted != nil {
			return admitted, nil
		}
	}
}

// Close stops listening. Connections stay open.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	l.spare.close()
	return err
}

// outOfFiles reports whether err means that the process, or the machine, has no file
// descriptor left.
func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// acceptInNeed accepts a connection without a free file descriptor: it closes an idle
// connection, or uses the descriptor that is kept back.
func (l *Listener) acceptInNeed(cause error) (_ net.Conn, onSpare bool, _ error) {
	if l.displace(netip.Addr{}) {
		c, err := l.Listener.Accept()
		return c, false, err
	}
	if !l.spare.lend() {
		return nil, false, cause
	}
	c, err := l.Listener.Accept()
	if err != nil {
		l.spare.takeBack()
		return nil, false, err
	}
	return c, true, nil
}

// admit counts a connection as open. It returns nil if there is no room.
func (l *Listener) admit(c net.Conn, onSpare bool) *Conn {
	out := &Conn{Conn: c, listener: l, host: hostOf(c.RemoteAddr()), opened: time.Now(), onSpare: onSpare}
	out.ready.Store(!l.opts.Handshake)
	for {
		reason, host := l.enter(out)
		if reason == "" {
			if onSpare {
				out.expiry = time.AfterFunc(spareTime, func() { _ = out.Close() })
			}
			return out
		}
		if !l.displace(host) {
			l.refuse(out, reason)
			return nil
		}
	}
}

// enter counts a connection. If there is no room it returns why, and the host of which a
// connection would have to be displaced; the zero Addr is any host.
func (l *Listener) enter(c *Conn) (reason string, host netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.opts.MaxPerHost > 0 && l.hosts[c.host] >= l.opts.MaxPerHost:
		return fmt.Sprintf("%d connections of %s are open, which is the limit for one host (%s)", l.opts.MaxPerHost, c.host, l.opts.HostKey), c.host
	case l.opts.Max > 0 && len(l.conns) >= l.opts.Max:
		return fmt.Sprintf("%d connections are open, which is the limit (%s)", l.opts.Max, l.opts.Key), netip.Addr{}
	}
	l.conns[c] = struct{}{}
	l.hosts[c.host]++
	return "", host
}

// displace closes an idle connection of a host, or of any. It reports whether there was
// one.
func (l *Listener) displace(host netip.Addr) bool {
	now := time.Now()
	l.mu.Lock()
	if now.Sub(l.searched) < searchEvery {
		l.mu.Unlock()
		return false
	}
	l.searched = now
	var idlest *Conn
	for c := range l.conns {
		if (!host.IsValid() || c.host == host) && c.idle(now) && (idlest == nil || c.before(idlest)) {
			idlest = c
		}
	}
	l.mu.Unlock()
	if idlest == nil || !idlest.retire() {
		return false
	}
	l.mu.Lock()
	l.searched = time.Time{} // there may be more idle ones
	l.mu.Unlock()
	l.displaced.Add(1)
	_ = idlest.Close()
	return true
}

// refuse closes a connection that there is no room for.
func (l *Listener) refuse(c *Conn, reason string) {
	l.refused.Add(1)
	l.tell(c, reason)
	if l.opts.Refusal != nil {
		// The refusal fits into the empty socket buffer, so Write returns at once; the
		// deadline is a safeguard.
		_ = c.Conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Conn.Write(l.opts.Refusal(reason))
	}
	_ = c.Conn.Close()
	if c.onSpare {
		l.spare.takeBack()
	}
}

// tell logs from time to time that connections are refused.
func (l *Listener) tell(c *Conn, reason string) {
	l.mu.Lock()
	l.quiet++
	n, now := l.quiet, time.Now()
	if due := now.Sub(l.logged) >= logEvery; due {
		l.logged, l.quiet = now, 0
	} else {
		n = 0
	}
	l.mu.Unlock()
	if n > 0 && l.opts.Log != nil {
		l.opts.Log.Warn("connections are refused", "reason", reason, "refused", n, "peer", c.RemoteAddr().String(), "listen", l.Addr().String())
	}
}

// Drop closes the connections whose other side has shown something in its handshake that gone
// says is no longer accepted. It returns how many there were.
func (l *Listener) Drop(gone func(*tls.ConnectionState) bool) (dropped int) {
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, c := range open {
		if state := c.TLS(); state != nil && gone(state) {
			dropped++
			_ = c.Close() // its user finds out
		}
	}
	return dropped
}

// DropUnused closes the connections on which no call has ever begun.
func (l *Listener) DropUnused() {
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, c := range open {
		if c.used.Load() == 0 && c.retire() {
			_ = c.Close() // its user finds out
		}
	}
}

func (l *Listener) left(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.conns[c]; !there {
		return
	}
	delete(l.conns, c)
	if l.hosts[c.host]--; l.hosts[c.host] == 0 {
		delete(l.hosts, c.host)
	}
}

// hostOf returns the host for whose limit an address counts.
func hostOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return HostOf(tcp.AddrPort().Addr())
}

// HostOf returns the host that an address belongs to: that of IPv6 has a network of addresses. This
// machine has one address for itself, and is known by it.
func HostOf(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() && !ip.IsLoopback() {
		const network = 64
		if p, err := ip.Prefix(network); err == nil {
			return p.Addr()
		}
	}
	return ip
}
