package server

import (
	"context"
	"net"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

// admit refuses an administrative call that comes from where none is taken. Its
// connection is all there is to go by: nothing that a request says grants anything.
func (c *calls) admit(ctx context.Context, m *method) error {
	if err := c.opts.Admit(hostAddr(ctx)); err != nil {
		return statusOf(codes.PermissionDenied, "%s: %s (not applied)", m.op, short(err.Error()))
	}
	return nil
}

// hostAddr is where a call comes from; the zero Addr if that has no address.
func hostAddr(ctx context.Context) netip.Addr {
	p, known := peer.FromContext(ctx)
	if !known {
		return netip.Addr{}
	}
	return addrOf(p.Addr)
}

// addrOf is the host of an address; the zero Addr if it names none.
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
