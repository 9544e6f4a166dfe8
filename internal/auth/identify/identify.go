package identify

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/jwt"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/certs"
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
	wrongJWT           reason = "JWT"
)

// reasons are all of them, for the metrics.
var reasons = []reason{malformed, unknownToken, unknownCertificate, ambiguous, unknownForwarded, expired, wrongJWT}

// maxAuthorization is the longest authorization that is read.
const maxAuthorization = 8 << 10

// Identify implements auth.Authenticator. A token that is sent decides alone; then the
// certificate of the connection does, and a connection without one is anonymous.
func (f *File) Identify(c auth.Credentials) (*auth.Identity, error) {
	s := f.current.Load()
	var i *auth.Identity
	var why reason
	var detail error
	switch {
	case c.Authorization != "":
		i, why, detail = s.authorization(c.Authorization)
	case c.TLS != nil:
		if i, why = s.certificate(c.TLS); why != accepted {
			detail = fmt.Errorf("certificate of %.200q", certs.Names(c.TLS.PeerCertificates[0]))
		}
	default:
		return s.anonymous, nil
	}
	switch {
	case errors.Is(detail, jwt.ErrUnavailable):
		return nil, auth.ErrUnavailable
	case why != accepted:
		return nil, f.rejected(c.Host, why, detail)
	}
	return i, nil
}

// authorization returns the identity that the value of the authorization header shows, or
// why it shows none; detail is for the log.
func (s *identities) authorization(value string) (i *auth.Identity, why reason, detail error) {
	if len(value) > maxAuthorization {
		return nil, malformed, nil
	}
	text, ok := bearer(value)
	switch {
	case !ok:
		return nil, malformed, nil
	case s.jwts != nil && !strings.HasPrefix(text, token.Prefix) && jwt.LooksLike(text):
		if i, detail = s.jwt(text); detail != nil {
			return nil, wrongJWT, detail
		}
		return i, accepted, nil
	}
	if i, why = s.token(text); why == unknownToken || why == expired {
		id, _ := token.IDOf(text) // is no secret, and says which client to look for
		detail = errors.New("token " + id)
	}
	return i, why, detail
}

// bearer returns the token of an authorization.
func bearer(value string) (string, bool) {
	const scheme = "bearer "
	if len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return strings.Trim(value[len(scheme):], " "), true
}
