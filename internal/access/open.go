package access

import (
	"crypto/tls"
	"net/netip"

	"github.com/dkvdb/dkv/internal/kv"
)

// Without authentication it matters only where a call comes from. That is decided once for
// a connection, by Opens and Trusts, which a server asks before Enter.

// Opens reports whether a call is accepted from every host without authentication.
func (g *Guard) Opens(r *Row) bool {
	if g.Authenticates() || r == nil {
		return false
	}
	return r.Role == Everyone || !r.Local && g.exposes(r)
}

// exposes reports whether allow-insecure opens a call.
func (g *Guard) exposes(r *Row) bool {
	switch g.options.Exposure {
	case Exposed:
		return true
	case ExposedData:
		return !r.administrative()
	default:
		return false
	}
}

// Trusts reports whether a connection without authentication is one of this machine or the
// cluster: it may make all calls but those that are Local.
func (g *Guard) Trusts(from netip.Addr, state *tls.ConnectionState) bool {
	return g.here(from) || state != nil && g.options.OfNode != nil && g.options.OfNode(state) ||
		g.options.Member != nil && g.options.Member(from)
}

func (g *Guard) here(from netip.Addr) bool {
	return from.IsLoopback() || from.IsValid() && g.options.Here != nil && g.options.Here(from)
}

// Near reports whether a connection comes from this machine or from a node of the cluster,
// with authentication or without it.
func (g *Guard) Near(from netip.Addr, state *tls.ConnectionState) bool {
	if g.Authenticates() {
		return g.here(from) || state != nil && g.options.OfNode != nil && g.options.OfNode(state)
	}
	return g.Trusts(from, state)
}

// enterOpen decides about a call without authentication.
func (g *Guard) enterOpen(r *Row, c *Caller) error {
	from := c.Host.Unmap()
	switch {
	case g.here(from) || g.Opens(r):
		return nil
	case r.Local:
		return kv.Errorf(kv.Denied, "this node has no authentication, and takes this call from its own machine only, and this one comes from %s: "+
			"run it there (at %s), or configure auth-file", hostName(from), g.address())
	case g.Trusts(from, c.TLS):
		return nil
	case r.administrative():
		return kv.Errorf(kv.Denied, "administrative calls are taken from this machine and the members of its cluster only, and this one comes from %s: "+
			"run it on the node itself (dkvctl -a %s), configure auth-file, or set allow-insecure: true there if only hosts that you trust reach it", hostName(from), g.address())
	default:
		return kv.Errorf(kv.Denied, "this node has no authentication, and takes calls from its own machine and the members of its cluster only, and this one comes from %s: "+
			"configure tls-mode and auth-file there, or set allow-insecure: data if only hosts that you trust reach it", hostName(from))
	}
}

func (g *Guard) address() string {
	if g.options.Address == nil {
		return "127.0.0.1"
	}
	return g.options.Address()
}

func hostName(from netip.Addr) string {
	if !from.IsValid() {
		return "an unknown address"
	}
	return from.String()
}
