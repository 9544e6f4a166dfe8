// Package auth decides who calls and what that caller may do: identities, their grants,
// and the file that gives them. It knows neither gRPC nor HTTP. The rules are in DESIGN.md.
package auth

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Role is a kind of calls.
type Role string

// The roles. Node is never granted: it comes with a node's certificate.
const (
	Read        Role = "read"
	Write       Role = "write"
	Watch       Role = "watch"
	Replication Role = "replication"
	Admin       Role = "admin"
	Node        Role = "node"
)

// Kind is how an identity was established.
type Kind string

// The kinds of identities.
const (
	OfNode    Kind = "node"
	Named     Kind = "named"
	Anonymous Kind = "anonymous"
	// Open is every caller of a node without authentication.
	Open Kind = "open"
)

// Identity is who calls. It is immutable.
type Identity struct {
	Kind Kind
	// Name is the name in the file, in the JWT or, of a node, in its certificate. It is
	// shown in logs.
	Name   string
	Grants []Grant
	// Via is the node that vouches for the identity of a forwarded call; "" otherwise.
	Via string
	// Credential is what showed the identity, for logs and not secret: "token ID",
	// "certificate NAME" or "jwt"; "" of a forwarded call.
	Credential string
	// Expires is when the credential ends; zero is never. A stream ends then too.
	Expires time.Time
	// Limits are those of the identity alone; nil means none.
	Limits *Limits
	// Carried reports whether the grants come from a JWT and not from the file. They are
	// sent with a forwarded call; see EncodeGrants.
	Carried bool
	// Proof is what the authenticator keeps to tell whether a credential is still accepted; nil
	// for nothing.
	Proof any
}

// ErrUnavailable is the error of a call with a JWT while the node has no keys to check it.
var ErrUnavailable = errors.New("the node cannot check JWTs yet, since it could not fetch the keys of their issuer: try again; its log says why")

// Limits bound what the calls of an identity use together, on each node; 0 means no limit.
type Limits struct{ RequestsPerSecond, RequestsInFlight, Streams int }

// ErrRejected is the error of every call with a wrong credential. It is the same for all of
// them, so that a caller does not learn which names, tokens and certificates exist.
var ErrRejected = errors.New("the token or certificate of this call is not accepted: check that it is complete, has not ended and is meant for this cluster; the log of the node says more")

// Grant allows the calls of a role. Databases and Prefixes narrow it; empty means all.
type Grant struct {
	Role      Role
	Databases []string
	Prefixes  [][]byte
}

// Credentials are what a call shows.
type Credentials struct {
	// Authorization is the value of the authorization metadata or header, "" if there is
	// none.
	Authorization string
	// TLS is the state of the connection; nil in the clear.
	TLS *tls.ConnectionState
	// Host is where the connection comes from.
	Host netip.Addr
}

// Authenticator finds the identity of a call. An implementation is safe for concurrent
// use and costs a call well under a microsecond once it has seen the credentials.
type Authenticator interface {
	// Identify returns the identity, or ErrRejected or ErrUnavailable. A rejection may take up to a second if
	// the host has sent many wrong credentials.
	Identify(Credentials) (*Identity, error)
	// Vouched returns the identity of a forwarded call, by the name that a node sent
	// without grants. The caller sets Via in a copy.
	Vouched(name string) (*Identity, error)
	// Changed returns a channel that is closed when grants may have changed: streams get a
	// channel, then check their grants with Current, and do so again when it is closed.
	Changed() <-chan struct{}
	// Current returns the identity as it is now; nil if its credential has ended or been
	// removed. Streams call it when Changed and at Expires.
	Current(*Identity) *Identity
}

// Span is a range of keys of a request: from Start to before End; nil End is no end. A
// single key is the span from it to its successor; see Key.
type Span struct{ Start, End []byte }

// Key returns the span of one key.
func Key(k []byte) Span { return Span{k, append(slices.Clip(slices.Clone(k)), 0)} }

// Prefix returns the span of all keys with a prefix.
func Prefix(p []byte) Span { return Span{p, successor(p)} }

// successor returns the first key behind all with a prefix; nil if there is none.
func successor(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] < 0xff {
			end := slices.Clone(p[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

// Allows reports whether the identity may make calls of a role to a database at all, for
// some keys at least.
func (i *Identity) Allows(r Role, database string) bool {
	switch i.Kind {
	case OfNode, Open:
		return true
	}
	return slices.ContainsFunc(i.Grants, func(g Grant) bool { return g.gives(r) && g.in(database) })
}

// Knows reports whether the identity may know which nodes a database has: it has a role for it,
// whatever role that is. The database "" stands for all.
func (i *Identity) Knows(database string) bool {
	switch i.Kind {
	case OfNode, Open:
		return true
	}
	return slices.ContainsFunc(i.Grants, func(g Grant) bool { return g.in(database) })
}

// Covers reports whether the identity may make a call of a role to a database for all
// keys of a span.
func (i *Identity) Covers(r Role, database string, s Span) bool {
	switch i.Kind {
	case OfNode, Open:
		return true
	}
	return slices.ContainsFunc(i.Grants, func(g Grant) bool { return g.gives(r) && g.in(database) && g.contains(s) })
}

// CoversKey is Covers for a single key, without making a span of it.
func (i *Identity) CoversKey(r Role, database string, key []byte) bool {
	switch i.Kind {
	case OfNode, Open:
		return true
	}
	for n := range i.Grants {
		if g := &i.Grants[n]; g.gives(r) && g.in(database) && g.hasKey(key) {
			return true
		}
	}
	return false
}

// gives reports whether the grant is one of a role: admin without prefixes includes all
// that can be granted.
func (g *Grant) gives(r Role) bool {
	return g.Role == r || g.Role == Admin && r != Node && len(g.Prefixes) == 0
}

func (g *Grant) in(database string) bool {
	return len(g.Databases) == 0 || slices.Contains(g.Databases, database)
}

func (g *Grant) hasKey(key []byte) bool {
	return len(g.Prefixes) == 0 || slices.ContainsFunc(g.Prefixes, func(p []byte) bool { return bytes.HasPrefix(key, p) })
}

// contains reports whether the grant's keys include all of a span.
func (g *Grant) contains(s Span) bool {
	if len(g.Prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(g.Prefixes, func(p []byte) bool {
		of := Prefix(p)
		return bytes.Compare(s.Start, of.Start) >= 0 && (of.End == nil || s.End != nil && bytes.Compare(s.End, of.End) <= 0)
	})
}
