package identify

import (
	"strings"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/jwt"
)

// again returns an identity as it is now.
func (s *identities) again(i *auth.Identity) *auth.Identity {
	proof, ofJWT := i.Proof.(*jwt.Proof)
	switch {
	case ended(i), ofJWT && (s.jwts == nil || !s.jwts.Holds(proof)):
		return nil
	case i.Kind == auth.OfNode, i.Kind == auth.Open:
		return i
	case i.Carried:
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
	same.Via, same.Proof = i.Via, i.Proof
	if now.Expires.IsZero() || !i.Expires.IsZero() && i.Expires.Before(now.Expires) {
		same.Expires = i.Expires // of the JWT, or of what the first node has checked
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
	case "jwt":
		return s.jwtNames[name]
	}
	return nil
}
