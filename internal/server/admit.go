package server

import (
	"context"
	"net"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

// admit rejects an administrative call from an address that may not make one. Only the
// connection's address counts: nothing in a request grants a right.
func (c *calls) admit(ctx context.Context, m *method) error {
	if err := c.opts.Admit(hostAddr(ctx)); err != nil {
		return statusOf(codes.PermissionDenied, "%s: %s (not applied)", m.op, short(err.Error()))
	}
	return nil
}

// hostAddr returns the address that a call comes from; the zero Addr if it has none.
func hostAddr(ctx context.Context) netip.Addr {
	p, known := peer.FromContext(ctx)
	if !known {
		return netip.Addr{}
	}
	return addrOf(p.Addr)
}

// addrOf returns the host of an address; the zero Addr if it names none.
func addrOf(at net.Addr) netip.Addr {
	host, _, err := net.SplitHostPort(at.String())
	if err != nil {
		return netip.Addr{}
	}
	from, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return from.Unmap()
}
