package server

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

// The metadata of authentication, and of calls that another node forwards.
const (
	authorizationKey     = "authorization"
	forwardedKey         = "dkv-forwarded"
	registryForwardedKey = "dkv-discovery-forwarded"
	identityKey          = auth.IdentityKey
	grantsKey            = auth.GrantsKey
	vBucketKey           = "dkv-vbucket"
)

// authorize decides who calls, and whether that caller may make the call at all. Nothing of
// the request has been read.
func (k *call) authorize(m *method) error {
	g := k.calls.opts.Access
	if g == nil || k.local {
		return nil
	}
	if !g.Authenticates() && (m.open || m.row != nil && !m.row.Local && k.conn.trusted(k.begun)) {
		k.identity = g.Shared()
		return nil
	}
	var err error
	if k.identity, err = g.Enter(m.row, k.caller()); err != nil {
		return rejected(m, err)
	}
	return nil
}

// permit decides whether the caller may make this request, which was just decoded.
func (k *call) permit(req any) error {
	if k.identity == nil {
		return nil
	}
	if err := k.calls.opts.Access.Check(k.method.row, k.identity, req); err != nil {
		return rejected(k.method, err)
	}
	return nil
}

// permitStream is permit for a message that a stream begins with. A stream lasts, so it is
// checked with the grants of now: it is in the set of streams already, and any later change
// finds it there.
func (k *call) permitStream(req any) error {
	k.mu.Lock()
	k.request = req
	k.mu.Unlock()
	if k.identity == nil {
		return nil
	}
	return k.still(req)
}

func (k *call) still(req any) error {
	if err := k.calls.opts.Access.Still(k.method.row, k.identity, req); err != nil {
		return rejected(k.method, err)
	}
	return nil
}

func rejected(m *method, err error) error {
	return toStatus(kv.Errorf(kv.KindOf(err), "%s: %s (not applied)", m.op, short(err.Error())))
}

// caller is what is known of a call before its request is read.
func (k *call) caller() *access.Caller {
	c := &access.Caller{
		Credentials: auth.Credentials{Authorization: strings.Join(k.header[authorizationKey], ", ")},
		Vouched:     strings.Join(k.header[identityKey], ", "),
		Grants:      strings.Join(k.header[grantsKey], ", "),
	}
	c.Marked = k.has(forwardedKey) || k.has(registryForwardedKey) || k.has(identityKey) || k.has(grantsKey)
	if k.conn != nil {
		c.Host, c.TLS = k.conn.from, k.conn.TLS()
	}
	return c
}

func (k *call) has(key string) bool {
	_, sent := k.header[key]
	return sent
}

// trustedFor is for how long a connection without authentication is trusted before that is
// decided again: a member may have been removed.
const trustedFor = 5 * time.Second

// trusted reports whether a connection without authentication is one of this machine or the
// cluster. It costs next to nothing but once in a while.
func (c *conn) trusted(now time.Time) bool {
	if c == nil {
		return false
	}
	if now.UnixNano() < c.trustedUntil.Load() {
		return true
	}
	if !c.calls.opts.Access.Trusts(c.from, c.TLS()) {
		return false
	}
	c.trustedUntil.Store(now.Add(trustedFor).UnixNano())
	return true
}

// checkStreams checks the streams again whenever grants change, until ctx ends.
func (c *calls) checkStreams(ctx context.Context) {
	if c.opts.Access == nil || !c.opts.Access.Authenticates() {
		return
	}
	for {
		changed := c.opts.Access.Changed() // before the check, so that no change is missed
		c.endDenied(func(*call) bool { return true })
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// endExpired ends the streams whose credentials have run out.
func (c *calls) endExpired(now time.Time) {
	if c.opts.Access == nil || !c.opts.Access.Authenticates() {
		return
	}
	c.endDenied(func(k *call) bool { return !k.identity.Expires.IsZero() && !now.Before(k.identity.Expires) })
}

// endDenied checks some of the streams again and ends those that are no longer allowed.
func (c *calls) endDenied(some func(*call) bool) {
	for _, set := range []*streamSet{c.streams, c.following} {
		for _, k := range set.all() {
			if k.identity == nil || !some(k) {
				continue
			}
			k.mu.Lock()
			req := k.request
			k.mu.Unlock()
			if err := k.still(req); err != nil {
				k.endStream(err)
			}
		}
	}
}

// headerOf returns the metadata of a call that did not come through tap.
func headerOf(ctx context.Context) metadata.MD {
	md, _ := metadata.FromIncomingContext(ctx)
	return md
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
