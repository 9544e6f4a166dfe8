// Package jwt checks JSON Web Tokens: their signature by public keys from a file or from
// the server that issues the tokens, and for whom and how long they are meant.
package jwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"

	"github.com/dkvdb/dkv/internal/auth/policy"
)

// Leeway is how far the issuer's clock may be from this machine's.
const Leeway = 30 * time.Second

// maxCandidates is how many keys without a name a token is checked with.
const maxCandidates = 16

// Verifier checks JWTs by the keys that it has at the time.
type Verifier struct {
	policy     policy.JWT
	algorithms []jose.SignatureAlgorithm
	keys       keys
}

// Claims are what a JWT says.
type Claims struct {
	// Name is the caller's.
	Name string
	// Grants is the claim with the grants; nil if there is none.
	Grants json.RawMessage
	// Expires is when the token is no longer accepted.
	Expires time.Time
	// Keys names the set of keys that the token was checked with; see Verifier.Keys.
	Keys *Keys
	// Proof is what the token was accepted by.
	Proof *Proof
}

// ErrUnavailable is the error of a JWT that cannot be checked, since no keys could be
// fetched yet.
var ErrUnavailable = errors.New("no keys to check JWTs with could be fetched yet")

// New makes a verifier. Keys of a file are read; those of a server are fetched by Run.
func New(p policy.JWT, log *slog.Logger) (*Verifier, error) {
	v := &Verifier{policy: p}
	for _, a := range p.Algorithms {
		v.algorithms = append(v.algorithms, jose.SignatureAlgorithm(a))
	}
	var err error
	if p.KeyFile != "" {
		v.keys, err = readKeys(p.KeyFile)
	} else {
		v.keys, err = newRemote(p.URL, p.CAFile, log)
	}
	return v, err
}

// Keys returns the set of keys that is in use; another set has another address.
func (v *Verifier) Keys() *Keys { return v.keys.current() }

// Verify returns the claims of a JWT that is valid now. Its errors are for the log; they
// show nothing of the token.
func (v *Verifier) Verify(text string) (*Claims, error) {
	// Without the algorithms `none` and HMAC nothing but the owner of a private key can have
	// made the token.
	token, err := jose.ParseSignedCompact(text, v.algorithms)
	if err != nil {
		return nil, errors.New("it is no JWT, or its algorithm is not accepted")
	}
	header := token.Signatures[0].Protected
	set, found := v.candidates(&header)
	if set == nil {
		return nil, ErrUnavailable
	}
	for _, key := range found {
		payload, err := token.Verify(key.Key)
		if err != nil {
			continue
		}
		claims, err := v.check(payload)
		if err != nil {
			return nil, err
		}
		claims.Keys, claims.Proof = set, &Proof{v.policy.Issuer, v.policy.Audience, key.Key}
		return claims, nil
	}
	if len(found) == 0 {
		return nil, errors.New("its key is not one of those that are accepted")
	}
	return nil, errors.New("its signature is wrong")
}

// candidates returns the keys that may have signed a token, and their set. Keys are fetched
// again if the token names one that is not known.
func (v *Verifier) candidates(header *jose.Header) (*Keys, []jose.JSONWebKey) {
	set := v.keys.current()
	if set != nil {
		if found := set.find(header); len(found) > 0 {
			return set, found
		}
	}
	if set = v.keys.refreshed(); set == nil {
		return nil, nil
	}
	return set, set.find(header)
}

// check reads claims whose signature is right.
func (v *Verifier) check(payload []byte) (*Claims, error) {
	var registered josejwt.Claims
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &registered) != nil || json.Unmarshal(payload, &all) != nil {
		return nil, errors.New("its claims are not a JSON object, or have other types than those of a JWT")
	}
	if registered.Expiry == nil {
		return nil, errors.New("it never ends: it has no claim exp")
	}
	expected := josejwt.Expected{Issuer: v.policy.Issuer, AnyAudience: josejwt.Audience{v.policy.Audience}}
	if err := registered.ValidateWithLeeway(expected, Leeway); err != nil {
		return nil, invalid(err)
	}
	c := &Claims{Expires: registered.Expiry.Time().Add(Leeway)}
	if json.Unmarshal(all[v.policy.NameClaim], &c.Name) != nil || c.Name == "" {
		return nil, fmt.Errorf("its claim %s is no name", v.policy.NameClaim)
	}
	if v.policy.GrantsClaim != "" {
		c.Grants = all[v.policy.GrantsClaim]
	}
	return c, nil
}

// invalid names a claim that is not as expected.
func invalid(err error) error {
	for is, text := range map[error]string{
		josejwt.ErrInvalidIssuer:     "its issuer (iss) is another one",
		josejwt.ErrInvalidAudience:   "it is meant for others (aud)",
		josejwt.ErrExpired:           "it has ended (exp)",
		josejwt.ErrNotValidYet:       "it is not valid yet (nbf)",
		josejwt.ErrIssuedInTheFuture: "it was issued in the future (iat): compare the clocks",
	} {
		if errors.Is(err, is) {
			return errors.New(text)
		}
	}
	return errors.New("its claims are not valid")
}

// LooksLike reports whether a text may be a JWT: three parts with dots between them.
func LooksLike(text string) bool { return strings.Count(text, ".") == 2 }

// Same reports whether a verifier that was made for another policy can be kept: its keys may
// have been fetched, and those of a file have not changed.
func (v *Verifier) Same(p policy.JWT) bool {
	q := v.policy
	return q.Issuer == p.Issuer && q.Audience == p.Audience && q.KeyFile == p.KeyFile && q.URL == p.URL && q.CAFile == p.CAFile &&
		q.NameClaim == p.NameClaim && q.GrantsClaim == p.GrantsClaim && slices.Equal(q.Algorithms, p.Algorithms)
}
