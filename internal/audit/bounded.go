package audit

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/dkvdb/dkv/internal/conns"
)

const (
	// linesPerSecond bounds the lines of one host in the long run, and linesAtOnce how many
	// of them may come in a row: far more than people and scripts need, and too few to fill
	// a disk.
	linesPerSecond, linesAtOnce = 20, 500
	// maxHosts is from how many hosts lines are bounded apart; those of further ones are
	// bounded together.
	maxHosts = 256
)

// bounded bounds the lines of each host, so that no host can hide the calls of another one.
type bounded struct {
	mu    sync.Mutex
	hosts map[netip.Addr]*host
}

// host is what is known of a host, or of all that are too many.
type host struct {
	limit      *rate.Limiter
	suppressed int // since the last line
}

func newBounded() bounded { return bounded{hosts: make(map[netip.Addr]*host)} }

// admit reports whether a line of a host may be written, and how many were not before it.
func (b *bounded) admit(from netip.Addr, now time.Time) (suppressed int, due bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.host(from)
	if !h.limit.AllowN(now, 1) {
		h.suppressed++
		return 0, false
	}
	suppressed, h.suppressed = h.suppressed, 0
	return suppressed, true
}

// host returns what is known of a host. The caller holds mu.
func (b *bounded) host(from netip.Addr) *host {
	h := b.hosts[from]
	if h == nil && len(b.hosts) >= maxHosts {
		from = netip.Addr{} // all of them
		h = b.hosts[from]
	}
	if h == nil {
		h = &host{limit: rate.NewLimiter(linesPerSecond, linesAtOnce)}
		b.hosts[from] = h
	}
	return h
}

// take returns how many lines of each host were left out, and forgets hosts that have been
// quiet.
func (b *bounded) take(now time.Time) map[netip.Addr]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var taken map[netip.Addr]int
	for from, h := range b.hosts {
		switch {
		case h.suppressed > 0:
			if taken == nil {
				taken = make(map[netip.Addr]int)
			}
			taken[from] = h.suppressed
			h.suppressed = 0
		case h.limit.TokensAt(now) >= linesAtOnce:
			delete(b.hosts, from)
		}
	}
	return taken
}

// hostOf returns the host of an address; the zero Addr if it names none.
func hostOf(address string) netip.Addr {
	if at, err := netip.ParseAddrPort(address); err == nil {
		return conns.HostOf(at.Addr())
	}
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		name = address
	}
	at, _ := netip.ParseAddr(name) // the zero Addr if it is none
	return conns.HostOf(at)
}
