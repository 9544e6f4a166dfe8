package identify

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/jwt"
	"github.com/dkvdb/dkv/internal/auth/policy"
)

// jwt returns the identity that a JWT shows.
func (s *identities) jwt(text string) (*auth.Identity, error) {
	if i := s.checked.find(text, s.jwts.Keys()); i != nil && !ended(i) {
		return i, nil
	}
	claims, err := s.jwts.Verify(text)
	if err != nil {
		return nil, err
	}
	i, err := s.ofClaims(claims)
	if err == nil {
		s.checked.add(strings.Clone(text), claims.Keys, i)
	}
	return i, err
}

// ofClaims returns the identity of a JWT that was checked: that of the file if it has the
// name among its jwt-names, or else one with the grants of the JWT.
func (s *identities) ofClaims(c *jwt.Claims) (*auth.Identity, error) {
	if named := s.jwtNames[c.Name]; named != nil {
		shown := *named
		shown.Expires, shown.Proof = c.Expires, c.Proof
		return &shown, nil
	}
	if err := auth.CheckName(c.Name); err != nil {
		return nil, fmt.Errorf("its name %w", err)
	}
	if s.names[c.Name] != nil || c.Name == policy.AnonymousName {
		return nil, fmt.Errorf("its name %q is that of an identity in the file, which has it not among its jwt-names", c.Name)
	}
	if c.Grants == nil {
		return nil, errors.New("it has no grants, and no identity in the file has its name among its jwt-names")
	}
	grants, err := policy.ParseGrants(c.Grants)
	if err != nil {
		return nil, err
	}
	// A JWT of at most maxAuthorization has no grants that EncodeGrants finds too large.
	return &auth.Identity{
		Kind: auth.Named, Name: c.Name, Grants: grants, Carried: true,
		Credential: "jwt " + c.Name, Expires: c.Expires, Proof: c.Proof,
	}, nil
}
