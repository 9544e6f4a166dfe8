// Package hosts knows which addresses are whose: those of this machine, and those of a
// list of hosts that changes.
package hosts

import (
	"context"
	"net"
	"net/netip"
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

const lookupTimeout = 2 * time.Second

// Lookup asks the system's name service for the addresses of a host.
func Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
