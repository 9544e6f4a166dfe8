package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

func (r *Row) administrative() bool { return r.Role == auth.Admin }

// maxNamed is how many prefixes an error lists.
const maxNamed = 5

// lacks is the error of an identity that may not make a call for any request.
func lacks(r *Row, id *auth.Identity, database string) error {
	missing := fmt.Sprintf("the role %s on database %q", r.Role, database)
	switch {
	case r.Role == Any:
		missing = "any role"
	case r.Role == auth.Node:
		return denied(id, "only nodes make this call, and %s is none: it needs a certificate with tls-node-name", nameOf(id))
	case r.named:
		missing = fmt.Sprintf("the role %s", r.Role)
	}
	return denied(id, "%s lacks %s: grant it in auth-file", nameOf(id), missing)
}

// exceeds is the error of an identity that may make a call, but not this request.
func exceeds(r *Row, id *auth.Identity, database string) error {
	if r.named {
		return denied(id, "%s lacks the role %s for what the request names: %s", nameOf(id), r.Role, r.About)
	}
	var prefixes []string
	for i := range id.Grants {
		if g := &id.Grants[i]; (g.Role == r.Role || g.Role == auth.Admin) && (len(g.Databases) == 0 || slices.Contains(g.Databases, database)) {
			for _, p := range g.Prefixes {
				prefixes = append(prefixes, fmt.Sprintf("%q", p))
			}
		}
	}
	if n := len(prefixes); n > maxNamed {
		prefixes = append(prefixes[:maxNamed], fmt.Sprintf("and %d more", n-maxNamed))
	}
	return denied(id, "%s lacks the role %s on database %q for the keys of the request: it has the role for keys that begin with %s", nameOf(id), r.Role, database, strings.Join(prefixes, ", "))
}

// denied is an error of kind Denied, or Unauthenticated for a caller that has shown nothing
// and may be allowed more once it does.
func denied(id *auth.Identity, format string, args ...any) error {
	if id.Kind == auth.Anonymous {
		return kv.Errorf(kv.Unauthenticated, "%w; show a token or a client certificate", fmt.Errorf(format, args...))
	}
	return kv.Errorf(kv.Denied, format, args...)
}

func nameOf(id *auth.Identity) string {
	switch {
	case id.Kind == auth.Anonymous:
		return "a caller without credentials"
	case id.Via != "":
		return fmt.Sprintf("identity %q (by node %s)", id.Name, id.Via)
	default:
		return fmt.Sprintf("identity %q", id.Name)
	}
}
