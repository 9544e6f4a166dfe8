package access

import (
	"crypto/tls"
	"errors"
	"net/netip"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

// Exposure is what a node without authentication accepts from other hosts than this machine
// and the members of its cluster: the values of allow-insecure.
type Exposure string

// The exposures.
const (
	// Protected accepts nothing.
	Protected Exposure = "false"
	// ExposedData accepts all but administrative calls.
	ExposedData Exposure = "data"
	// Exposed accepts everything.
	Exposed Exposure = "true"
)

// Options say what a guard goes by.
type Options struct {
	// Authenticator finds who calls; nil is a node without authentication.
	Authenticator auth.Authenticator
	// Database is what the node serves.
	Database string
	// Exposure is for a node without authentication.
	Exposure Exposure
	// OfNode reports whether a connection has shown the certificate of a node; nil is a node
	// without TLS.
	OfNode func(*tls.ConnectionState) bool
	// Here reports whether an address is this machine's, Member whether it belongs to a
	// member of the cluster; nil for neither, but loopback is this machine's in any case.
	Here, Member func(netip.Addr) bool
	// Address is where this machine reaches the node, for errors.
	Address func() string
}

// Guard decides about the calls of a node. It is safe for concurrent use.
type Guard struct {
	options Options
	// open is the identity of all callers without authentication; nil without TLS, so that
	// nothing has to be carried along.
	open *auth.Identity
}

// NewGuard returns a guard.
func NewGuard(o Options) *Guard {
	g := &Guard{options: o}
	if o.OfNode != nil {
		g.open = &auth.Identity{Kind: auth.Open}
	}
	return g
}

// Authenticates reports whether calls have identities. Otherwise it only matters where
// they come from.
func (g *Guard) Authenticates() bool { return g.options.Authenticator != nil }

// Shared returns the identity of all callers of a node without authentication; nil if there
// is nothing to carry along.
func (g *Guard) Shared() *auth.Identity { return g.open }

// Caller is what is known of a call before its request is read.
type Caller struct {
	auth.Credentials
	// Marked: the call claims to be a forwarded one, by any of the marks.
	Marked bool
	// Vouched is the name of the identity that a node has forwarded the call of, and Grants
	// are those that came with it; "" for none.
	Vouched, Grants string
}

// Enter decides who calls, and whether that caller may make the call at all. Its errors are
// of kind kv.Unauthenticated and kv.Denied, or kv.Unavailable if it cannot tell at present;
// beside them it returns the identity, too, if that is known. The identity is nil if callers are not distinguished.
func (g *Guard) Enter(r *Row, c *Caller) (*auth.Identity, error) {
	switch {
	case r == nil:
		return nil, kv.Errorf(kv.Denied, "this call is in no table of roles, so no one may make it; it is a fault of this release")
	case r.Role == Everyone:
		return nil, nil
	case g.options.Authenticator == nil:
		return g.open, g.enterOpen(r, c)
	}
	id, err := g.identify(c)
	if err != nil {
		return id, err
	}
	if !r.admits(id, g.options.Database) {
		return id, lacks(r, id, g.options.Database)
	}
	return id, nil
}

// identify returns the identity of a call: the caller's own, or the one that a node vouches
// for. The marks of forwarded calls are a node's alone: they skip the search for the owner,
// and name the identity. Beside the error that a mark is not accepted it returns who sent it.
func (g *Guard) identify(c *Caller) (*auth.Identity, error) {
	id, err := g.options.Authenticator.Identify(c.Credentials)
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return nil, kv.Errorf(kv.Unavailable, "%w", err) // another node may have the keys
	case err != nil:
		return nil, kv.Errorf(kv.Unauthenticated, "%w", err)
	case !c.Marked:
		return id, nil
	case id.Kind != auth.OfNode:
		return id, kv.Errorf(kv.Denied, "the metadata of forwarded calls (dkv-forwarded, dkv-discovery-forwarded, dkv-identity, dkv-grants) "+
			"is accepted with the certificate of a node only: make the call without it")
	case c.Vouched == "":
		return id, nil
	}
	vouched, err := g.vouched(c)
	if err != nil {
		return id, kv.Errorf(kv.Denied, "node %s forwards a call of %.64q, which this node does not accept: %w; have all nodes use the same auth-file", id.Name, c.Vouched, err)
	}
	out := *vouched
	out.Via = id.Name
	return &out, nil
}

func (g *Guard) vouched(c *Caller) (*auth.Identity, error) {
	if c.Grants != "" {
		return auth.DecodeGrants(c.Vouched, c.Grants)
	}
	return g.options.Authenticator.Vouched(c.Vouched)
}

// Check decides whether an identity that Enter has returned may make a certain request. It
// costs a request with one key no allocation.
func (g *Guard) Check(r *Row, id *auth.Identity, req any) error {
	if id == nil || id.Kind == auth.OfNode || id.Kind == auth.Open || r.covered == nil {
		return nil
	}
	if r.covered(demand{id, r.Role, g.options.Database}, req) {
		return nil
	}
	return exceeds(r, id, g.options.Database)
}

// Still decides whether a stream may go on, with the grants that its identity has now.
// req is nil while the request has not arrived.
func (g *Guard) Still(r *Row, id *auth.Identity, req any) error {
	if id == nil || g.options.Authenticator == nil {
		return nil
	}
	now := g.options.Authenticator.Current(id)
	switch {
	case now == nil:
		return kv.Errorf(kv.Denied, "%s has ended: its token, certificate or name is no longer accepted", nameOf(id))
	case !r.admits(now, g.options.Database):
		return lacks(r, now, g.options.Database)
	case req == nil:
		return nil
	}
	return g.Check(r, now, req)
}

// Changed returns a channel that is closed when streams have to be checked again; nil if
// they never have.
func (g *Guard) Changed() <-chan struct{} {
	if g.options.Authenticator == nil {
		return nil
	}
	return g.options.Authenticator.Changed()
}
