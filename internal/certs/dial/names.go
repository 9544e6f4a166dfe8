package dial

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// nextAddress is how long an attempt to connect may take before the next address of the same name is
// tried beside it. Go's own dialer tries the next one when the first has failed: one that swallows
// packets takes all the time that there is, each time again.
const nextAddress = 250 * time.Millisecond

// Names connects to addresses whose hosts may be names of several machines.
type Names struct {
	lookUp func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)

	mu sync.Mutex
	// turns counts the connections to each name: each begins with another address, since one that can be
	// connected to may still say nothing.
	turns map[string]int
}

// NewNames returns what connects by d, which has no limit of its own.
func NewNames(d *net.Dialer) *Names {
	return &Names{lookUp: net.DefaultResolver.LookupNetIP, dial: d.DialContext, turns: make(map[string]int)}
}

// Dial connects to host:port, at the address that answers first.
func (n *Names) Dial(ctx context.Context, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return n.dial(ctx, "tcp", addr)
	}
	ips, err := n.lookUp(ctx, "ip", host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	return n.first(ctx, n.inTurn(addr, ips), port)
}

// inTurn returns the addresses of a name, from another one on each time.
func (n *Names) inTurn(addr string, ips []netip.Addr) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := n.turns[addr] % len(ips)
	n.turns[addr]++
	return append(append(make([]netip.Addr, 0, len(ips)), ips[at:]...), ips[:at]...)
}

// first returns the first connection that stands. Its error is that of the first address that failed.
func (n *Names) first(ctx context.Context, ips []netip.Addr, port string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	var why error
	for next, running := 0, 0; next < len(ips) || running > 0; {
		if next < len(ips) {
			to := net.JoinHostPort(ips[next].Unmap().String(), port)
			go func() {
				conn, err := n.dial(ctx, "tcp", to)
				select {
				case results <- result{conn, err}:
				case <-ctx.Done():
					if err == nil {
						_ = conn.Close() // another one was faster
					}
				}
			}()
			next++
			running++
		}
		var later <-chan time.Time
		if next < len(ips) {
			later = time.After(nextAddress)
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, nil
			}
			if why == nil {
				why = r.err
			}
		case <-later:
		case <-ctx.Done():
			if why == nil {
				why = ctx.Err()
			}
			return nil, why
		}
	}
	return nil, why
}
