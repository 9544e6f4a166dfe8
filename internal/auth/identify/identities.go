package identify

import (
	"crypto/tls"
	"crypto/x509"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
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

func newIdentities(p *policy.Policy, nodeName string) *identities {
	s := &identities{
		nodeName:     nodeName,
		names:        make(map[string]*auth.Identity),
		tokens:       make(map[string]*tokenHolder),
		certificates: make(map[string]*auth.Identity),
		anonymous:    &auth.Identity{Kind: auth.Anonymous, Name: policy.AnonymousName},
		leaves:       remembered[*x509.Certificate]{seed: maphash.MakeSeed()},
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
// has verified its chain; a connection without a certificate is anonymous.
func (s *identities) certificate(state *tls.ConnectionState) (*auth.Identity, reason) {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return s.anonymous, accepted
	}
	leaf := state.PeerCertificates[0]
	if time.Now().After(leaf.NotAfter) {
		return nil, expired // while the connection was open
	}
	if i := s.leaves.find(leaf); i != nil {
		return i, accepted
	}
	i, why := s.ofLeaf(state)
	if why == accepted {
		s.leaves.add(leaf, i)
	}
	return i, why
}

// ofLeaf looks up the names of a certificate. One that carries the names of two identities
// shows neither.
func (s *identities) ofLeaf(state *tls.ConnectionState) (*auth.Identity, reason) {
	leaf := state.PeerCertificates[0]
	names := certs.Names(leaf)
	if s.nodeName != "" && certs.OfNode(state, s.nodeName) {
		return &auth.Identity{Kind: auth.OfNode, Name: nameOfNode(names, s.nodeName), Expires: leaf.NotAfter}, accepted
	}
	var found *auth.Identity
	for _, name := range names {
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
	shown := *found
	shown.Expires = leaf.NotAfter
	return &shown, accepted
}

// nameOfNode is the name of a certificate that is not the one that all nodes have.
func nameOfNode(names []string, all string) string {
	if i := slices.IndexFunc(names, func(n string) bool { return n != all }); i >= 0 {
		return names[i]
	}
	return all
}

// vouched returns the identity of a forwarded call; nil if there is none.
func (s *identities) vouched(name string) *auth.Identity {
	if name == policy.AnonymousName {
		return s.anonymous
	}
	return s.names[name]
}

// again returns an identity as it is now.
func (s *identities) again(i *auth.Identity) *auth.Identity {
	switch {
	case ended(i):
		return nil
	case i.Kind == auth.OfNode, i.Kind == auth.Open, i.Carried:
		return i
	case i.Kind == auth.Anonymous && i.Via == "":
		return s.anonymous
	}
	now := s.shownBy(i)
	if now == nil || now.Name != i.Name || ended(now) {
		return nil
	}
	if now.Via == i.Via && now.Expires.Equal(i.Expires) {
		return now
	}
	same := *now
	same.Via = i.Via
	if now.Expires.IsZero() || !i.Expires.IsZero() && i.Expires.Before(now.Expires) {
		same.Expires = i.Expires // of the certificate, or of what the first node has checked
	}
	return &same
}

// shownBy returns the identity that the credential of another one shows now.
func (s *identities) shownBy(i *auth.Identity) *auth.Identity {
	kind, name, _ := strings.Cut(i.Credential, " ")
	switch kind {
	case "":
		return s.vouched(i.Name)
	case "token":
		if t := s.tokens[name]; t != nil {
			return t.identity
		}
	case "certificate":
		return s.certificates[name]
	}
	return nil
}
