package identify

import (
	"crypto/tls"
	"crypto/x509"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/jwt"
	"github.com/dkvdb/dkv/internal/auth/policy"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/certs"
)

// identities is a file's content, arranged for look-ups. It is immutable; a changed file
// replaces it as a whole, and with it everything that was remembered.
type identities struct {
	nodeName string
	// names are the identities without a credential, as of forwarded calls.
	names map[string]*auth.Identity
	// tokens are by ID, and certificates by the name that they carry.
	tokens       map[string]*tokenHolder
	certificates map[string]*auth.Identity
	anonymous    *auth.Identity
	leaves       remembered[*x509.Certificate]
	// jwts checks JWTs; nil if none are accepted. jwtNames are identities by the name that a
	// JWT gives.
	jwts     *jwt.Verifier
	jwtNames map[string]*auth.Identity
	checked  remembered[string]
	// replaced is closed when another file is in use.
	replaced chan struct{}
}

// tokenHolder is a token and the identity that it shows.
type tokenHolder struct {
	digest   token.Digest
	identity *auth.Identity
}

// noToken is compared with a token whose ID is unknown, so that it costs as much as a known
// one with a wrong secret.
var noToken tokenHolder

func newIdentities(p *policy.Policy, nodeName string, jwts *jwt.Verifier) *identities {
	s := &identities{
		nodeName:     nodeName,
		names:        make(map[string]*auth.Identity),
		tokens:       make(map[string]*tokenHolder),
		certificates: make(map[string]*auth.Identity),
		anonymous:    &auth.Identity{Kind: auth.Anonymous, Name: policy.AnonymousName},
		leaves:       remembered[*x509.Certificate]{seed: maphash.MakeSeed()},
		jwts:         jwts,
		jwtNames:     make(map[string]*auth.Identity),
		checked:      remembered[string]{seed: maphash.MakeSeed()},
		replaced:     make(chan struct{}),
	}
	for i := range p.Identities {
		s.add(&p.Identities[i])
	}
	return s
}

func (s *identities) add(id *policy.Identity) {
	named := auth.Identity{Kind: auth.Named, Name: id.Name, Grants: id.Grants, Limits: id.Limits}
	if id.Name == policy.AnonymousName {
		named.Kind = auth.Anonymous
		s.anonymous = &named
	}
	s.names[id.Name] = &named
	for _, t := range id.Tokens {
		shown := named
		shown.Credential, shown.Expires = "token "+t.ID, t.NotAfter
		s.tokens[t.ID] = &tokenHolder{t.Digest, &shown}
	}
	for _, name := range id.Certificates {
		shown := named
		shown.Credential = "certificate " + name
		s.certificates[name] = &shown
	}
	for _, name := range id.JWTNames {
		shown := named
		shown.Credential = "jwt " + name
		s.jwtNames[name] = &shown
	}
}

// count is the number of identities.
func (s *identities) count() int { return len(s.names) }

// token returns the identity that a token shows.
func (s *identities) token(text string) (*auth.Identity, reason) {
	id, ok := token.IDOf(text)
	if !ok {
		return nil, malformed
	}
	sum := token.Sum(text)
	holder := s.tokens[id]
	if holder == nil {
		holder = &noToken
	}
	switch {
	case !holder.digest.Equal(&sum) || holder.identity == nil:
		return nil, unknownToken
	case ended(holder.identity):
		return nil, expired
	}
	return holder.identity, accepted
}

func ended(i *auth.Identity) bool { return !i.Expires.IsZero() && !time.Now().Before(i.Expires) }

// certificate returns the identity that the certificate of a connection shows. The handshake
// has verified its chain and its dates; the connection may last longer. A connection without
// a certificate is anonymous.
func (s *identities) certificate(state *tls.ConnectionState) (*auth.Identity, reason) {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return s.anonymous, accepted
	}
	leaf := state.PeerCertificates[0]
	if i := s.leaves.find(leaf, nil); i != nil {
		return i, accepted
	}
	i, why := s.ofLeaf(state)
	if why == accepted {
		s.leaves.add(leaf, nil, i)
	}
	return i, why
}

// ofLeaf looks up the names of a certificate. One that carries the names of two identities
// shows neither.
func (s *identities) ofLeaf(state *tls.ConnectionState) (*auth.Identity, reason) {
	leaf := state.PeerCertificates[0]
	if s.nodeName != "" && certs.OfNode(state, s.nodeName) {
		return &auth.Identity{Kind: auth.OfNode, Name: nameOfNode(leaf, s.nodeName)}, accepted
	}
	var found *auth.Identity
	for _, name := range certs.Names(leaf) {
		i := s.certificates[name]
		if i == nil {
			continue
		}
		if found != nil && found.Name != i.Name {
			return nil, ambiguous
		}
		found = i
	}
	if found == nil {
		return nil, unknownCertificate
	}
	return found, accepted
}

// nameOfNode is the name of a certificate that tells its node from others: neither the one
// that all nodes have, nor one by which every machine calls itself. The common name comes
// first if the node is reached by it.
func nameOfNode(leaf *x509.Certificate, all string) string {
	names := certs.Names(leaf)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if cn := leaf.Subject.CommonName; leaf.VerifyHostname(cn) == nil {
		names = append([]string{cn}, names...)
	}
	if i := slices.IndexFunc(names, func(n string) bool { return n != all && !loopback(n) }); i >= 0 {
		return names[i]
	}
	return all
}

func loopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && ip.IsLoopback()
}

// vouched returns the identity of a forwarded call; nil if there is none.
func (s *identities) vouched(name string) *auth.Identity {
	if name == policy.AnonymousName {
		return s.anonymous
	}
	return s.names[name]
}
