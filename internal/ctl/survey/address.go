package survey

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// lookupTimeout bounds looking up the names of two hosts.
const lookupTimeout = time.Second

// sameAddress reports whether two addresses, host:port, reach the same place.
func sameAddress(ctx context.Context, a, b string) bool {
	if a == b {
		return true
	}
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ipsA, ipsB := lookupHost(ctx, hostA), lookupHost(ctx, hostB)
	return slices.ContainsFunc(ipsA, func(ip netip.Addr) bool { return slices.Contains(ipsB, ip) })
}

// lookupHost returns the addresses of a host's name or address; none if the look-up
// fails.
func lookupHost(ctx context.Context, host string) []netip.Addr {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for i, ip := range ips {
		ips[i] = ip.Unmap()
	}
	return ips
}
