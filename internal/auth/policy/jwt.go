package policy

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// algorithms are the signatures that a JWT may have: of a private key, so that no server
// that checks JWTs can also make them.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// jwt reads how JWTs are checked.
func (r *reader) jwt(node *yaml.Node) (*JWT, error) {
	j := new(JWT)
	err := r.fields("jwt", node, fields{
		"issuer":       r.into("issuer", &j.Issuer),
		"audience":     r.into("audience", &j.Audience),
		"key-file":     r.into("key-file", &j.KeyFile),
		"jwks-url":     r.into("jwks-url", &j.URL),
		"ca-file":      r.into("ca-file", &j.CAFile),
		"name-claim":   r.into("name-claim", &j.NameClaim),
		"grants-claim": r.into("grants-claim", &j.GrantsClaim),
		"algorithms":   r.texts("algorithms", &j.Algorithms),
	})
	switch {
	case err != nil:
		return nil, err
	case j.Issuer == "" || j.Audience == "":
		return nil, r.wrong(node, "jwt needs issuer and audience: without them JWTs made for other services would be accepted")
	case (j.KeyFile == "") == (j.URL == ""):
		return nil, r.wrong(node, "jwt needs either key-file or jwks-url: write one of the two")
	case j.CAFile != "" && j.URL == "":
		return nil, r.wrong(node, "jwt has a ca-file, which is for jwks-url: remove it")
	case j.URL != "" && !safeURL(j.URL):
		return nil, r.wrong(node, "jwks-url %q could be answered by another host on the way: write an https URL, or an http one of this machine", j.URL)
	}
	for _, a := range j.Algorithms {
		if !slices.Contains(algorithms, a) {
			return nil, r.wrong(node, "the algorithm %q is not accepted: write some of %s, or remove the key for all of them", a, strings.Join(algorithms, ", "))
		}
	}
	if len(j.Algorithms) == 0 {
		j.Algorithms = slices.Clone(algorithms)
	}
	if j.NameClaim == "" {
		j.NameClaim = "sub"
	}
	return j, nil
}

// safeURL reports whether only the server that a URL names can answer it.
func safeURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	host, err := netip.ParseAddr(u.Hostname())
	local := err == nil && host.IsLoopback() || u.Hostname() == "localhost"
	return u.Scheme == "https" || u.Scheme == "http" && local
}
