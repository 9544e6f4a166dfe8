package identify

import (
	"strings"

	"github.com/dkvdb/dkv/internal/auth"
)

// reason is why a credential was rejected, for the log and the metrics.
type reason string

const (
	accepted           reason = ""
	malformed          reason = "malformed"
	unknownToken       reason = "unknown token"
	unknownCertificate reason = "unknown certificate"
	ambiguous          reason = "certificate of several identities"
	unknownForwarded   reason = "unknown forwarded name"
	expired            reason = "expired"
)

// reasons are all of them, for the metrics.
var reasons = []reason{malformed, unknownToken, unknownCertificate, ambiguous, unknownForwarded, expired}

// maxAuthorization is the longest authorization that is read.
const maxAuthorization = 8 << 10

// Identify implements auth.Authenticator. A token that is sent decides alone; then the
// certificate of the connection does, and a connection without one is anonymous.
func (f *File) Identify(c auth.Credentials) (*auth.Identity, error) {
	s := f.current.Load()
	var i *auth.Identity
	var why reason
	switch {
	case c.Authorization != "":
		i, why = s.authorization(c.Authorization)
	case c.TLS != nil:
		i, why = s.certificate(c.TLS)
	default:
		return s.anonymous, nil
	}
	if why != accepted {
		return nil, f.rejected(c.Host, why)
	}
	return i, nil
}

// authorization returns the identity that the value of the authorization header shows.
func (s *identities) authorization(value string) (*auth.Identity, reason) {
	if len(value) > maxAuthorization {
		return nil, malformed
	}
	text, ok := bearer(value)
	if !ok {
		return nil, malformed
	}
	return s.token(text)
}

// bearer returns the token of an authorization.
func bearer(value string) (string, bool) {
	const scheme = "bearer "
	if len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return strings.Trim(value[len(scheme):], " "), true
}
