package policy

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/token"
)

// Parse reads the content of a file; name is for errors, which name the line and what to
// do.
func Parse(name string, data []byte) (*Policy, error) {
	r := &reader{file: name}
	root, err := r.parseYAML(data)
	if err != nil {
		return nil, err
	}
	p := new(Policy)
	taken := make(taken)
	err = r.fields("the file", root, fields{
		"identities": func(node *yaml.Node) error {
			return r.list("identities", node, func(e *yaml.Node) error {
				id, err := r.identity(e, taken)
				p.Identities = append(p.Identities, id)
				return err
			})
		},
		"jwt": func(node *yaml.Node) (err error) {
			p.JWT, err = r.jwt(node)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	if len(p.Identities) == 0 && p.JWT == nil {
		// Probably a file that is just being written; with an empty one no call would be accepted.
		return nil, fmt.Errorf("%s has no identities: write at least one", name)
	}
	for i := range p.Identities {
		if id := &p.Identities[i]; len(id.JWTNames) > 0 && p.JWT == nil {
			return nil, fmt.Errorf("%s: identity %q has jwt-names, but the file accepts no JWTs: write the key jwt, or remove the names", name, id.Name)
		}
	}
	return p, nil
}

// taken are the names and credentials that have been read, with their lines: none may
// belong to two identities.
type taken map[string]int

// take returns an error if another line has what already.
func (t taken) take(r *reader, at *yaml.Node, what, value string) error {
	if first := t[what+" "+value]; first != 0 {
		return r.wrong(at, "the %s %q is in line %d already: it can mean one identity only", what, value, first)
	}
	t[what+" "+value] = at.Line
	return nil
}

// identity reads one entry.
func (r *reader) identity(node *yaml.Node, taken taken) (id Identity, err error) {
	err = r.fields("an identity", node, fields{
		"name":         r.into("name", &id.Name),
		"tokens":       func(n *yaml.Node) (err error) { id.Tokens, err = r.tokens(n, taken); return err },
		"certificates": r.texts("names of certificates", &id.Certificates),
		"jwt-names":    r.texts("names in JWTs", &id.JWTNames),
		"grants":       func(n *yaml.Node) (err error) { id.Grants, err = r.grants(n); return err },
		"limits":       func(n *yaml.Node) (err error) { id.Limits, err = r.limits(n); return err },
	})
	if err != nil {
		return id, err
	}
	if id.Name == "" {
		return id, r.wrong(node, "an identity without a name: add the key name")
	}
	if err := auth.CheckName(id.Name); err != nil {
		return id, r.wrong(node, "the name %q %v", id.Name, err)
	}
	if id.Name == AnonymousName && len(id.Tokens)+len(id.Certificates)+len(id.JWTNames) > 0 {
		return id, r.wrong(node, "anonymous is the identity of calls that show nothing, so it has no tokens, certificates or jwt-names: remove them, or choose another name")
	}
	if err := taken.take(r, node, "name", id.Name); err != nil {
		return id, err
	}
	for _, c := range id.Certificates {
		if err := taken.take(r, node, "certificate", c); err != nil {
			return id, err
		}
	}
	for _, n := range id.JWTNames {
		if err := taken.take(r, node, "jwt-name", n); err != nil {
			return id, err
		}
	}
	return id, nil
}

// tokens reads the tokens of an identity.
func (r *reader) tokens(node *yaml.Node, taken taken) (all []Token, err error) {
	err = r.list("tokens", node, func(e *yaml.Node) error {
		if len(all) == maxTokens {
			return r.wrong(e, "a third token: keep the one in use and the one that replaces it")
		}
		t, err := r.token(e)
		if err != nil {
			return err
		}
		all = append(all, t)
		return taken.take(r, e, "token", t.ID)
	})
	return all, err
}

// token reads a hash, or a map with a hash and when the token ends.
func (r *reader) token(node *yaml.Node) (t Token, err error) {
	hash, notAfter := node.Value, ""
	if node.Kind != yaml.ScalarNode {
		hash = ""
		err = r.fields("a token", node, fields{"hash": r.into("hash", &hash), "not-after": r.into("not-after", &notAfter)})
		if err != nil {
			return t, err
		}
	}
	if strings.HasPrefix(hash, token.Prefix) {
		return t, r.wrong(node, "a token in the clear: write its hash, which dkvctl -token new prints, and replace the token, since others may have read it here")
	}
	if t.ID, t.Digest, err = token.ParseHash(hash); err != nil {
		return t, r.wrong(node, "the hash of a token: %v", err)
	}
	if notAfter == "" {
		return t, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t.NotAfter, err = time.Parse(layout, notAfter); err == nil {
			return t, nil
		}
	}
	return t, r.wrong(node, "not-after %q is not a time: write 2030-01-31 or 2030-01-31T12:00:00Z", notAfter)
}

// limits reads the limits of an identity.
func (r *reader) limits(node *yaml.Node) (*auth.Limits, error) {
	l := new(auth.Limits)
	return l, r.fields("limits", node, fields{
		"requests-per-second": r.count("requests-per-second", &l.RequestsPerSecond),
		"requests-in-flight":  r.count("requests-in-flight", &l.RequestsInFlight),
		"streams":             r.count("streams", &l.Streams),
	})
}
