// Package hosts knows which addresses are whose: those of this machine, and those of a
// list of hosts that changes.
package hosts

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Own returns the addresses of this machine. Loopback is always one besides.
func Own() []netip.Addr {
	var out []netip.Addr
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out
}

// Machine is the addresses of this machine, at most some seconds old: a stranger's call must
// not cost the system calls each time. The zero value is ready.
type Machine struct {
	mu    sync.Mutex
	known []netip.Addr
	asked time.Time
}

// Addresses returns them.
func (m *Machine) Addresses() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked.IsZero() || time.Since(m.asked) > hostsKept {
		m.known, m.asked = Own(), time.Now()
	}
	return m.known
}

const lookupTimeout = 2 * time.Second

// Lookup asks the system's name service for the addresses of a host.
func Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
