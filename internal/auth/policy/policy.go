// Package policy reads the file of auth-file: the identities, what shows them, and their
// grants. Everything in it is checked when it is read, so that a mistake in a grant is an
// error with a line number and not a call that is rejected, or allowed, weeks later.
package policy

import (
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/token"
)

// AnonymousName is the identity of calls that show nothing.
const AnonymousName = "anonymous"

// MaxSize is the largest file in bytes.
const MaxSize = 8 << 20

// maxTokens is how many tokens an identity has: the one in use and the one that replaces it.
const maxTokens = 2

// Policy is the content of a file. It is valid: names and credentials are unique.
type Policy struct {
	Identities []Identity
	// JWT is nil if no JWTs are accepted.
	JWT *JWT
}

// Identity is an entry of the file.
type Identity struct {
	Name   string
	Tokens []Token
	// Certificates are names that a client's certificate carries, and JWTNames names that a
	// JWT gives its subject.
	Certificates, JWTNames []string
	Grants                 []auth.Grant
	Limits                 *auth.Limits
}

// Token is the hash of a token.
type Token struct {
	ID     string
	Digest token.Digest
	// NotAfter is when the token ends; zero is never.
	NotAfter time.Time
}

// JWT says which JWTs are accepted, and how they name the caller and its grants.
type JWT struct {
	Issuer, Audience string
	// KeyFile is a PEM or JWKS file of public keys; URL is where a JWKS is served. One of
	// the two is set.
	KeyFile, URL string
	// CAFile holds the authorities of URL's server; "" is those of the machine.
	CAFile string
	// NameClaim is the claim that names the caller, and GrantsClaim the one that holds its
	// grants; "" if only names in the file have grants.
	NameClaim, GrantsClaim string
	Algorithms             []string
}
