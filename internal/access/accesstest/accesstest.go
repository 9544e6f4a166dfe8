// Package accesstest has an auth.Authenticator for tests, whose identities a test gives and
// takes away.
package accesstest

import (
	"errors"
	"strings"
	"sync"

	"github.com/dkvdb/dkv/internal/auth"
)

// NodeToken stands for the certificate of a node, which a connection in the clear has not.
const NodeToken = "a node's certificate"

// Authenticator knows identities by their names, which are their tokens, too.
type Authenticator struct {
	mu        sync.Mutex
	known     map[string]*auth.Identity
	anonymous *auth.Identity
	changed   chan struct{}
}

var _ auth.Authenticator = (*Authenticator)(nil)

// New returns an authenticator that knows the nodes only.
func New() *Authenticator {
	return &Authenticator{
		known:     make(map[string]*auth.Identity),
		anonymous: &auth.Identity{Kind: auth.Anonymous, Name: "anonymous"},
		changed:   make(chan struct{}),
	}
}

// Grant gives an identity exactly these grants; "anonymous" is that of callers without
// credentials.
func (a *Authenticator) Grant(name string, grants ...auth.Grant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name == a.anonymous.Name {
		a.anonymous = &auth.Identity{Kind: auth.Anonymous, Name: name, Grants: grants}
	} else {
		a.known[name] = &auth.Identity{Kind: auth.Named, Name: name, Grants: grants}
	}
	a.change()
}

// Limit gives an identity that has grants exactly these limits.
func (a *Authenticator) Limit(name string, limits auth.Limits) {
	a.mu.Lock()
	defer a.mu.Unlock()
	limited := *a.known[name]
	limited.Limits = &limits
	a.known[name] = &limited
	a.change()
}

// Remove takes an identity away.
func (a *Authenticator) Remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, name)
	a.change()
}

func (a *Authenticator) change() {
	close(a.changed)
	a.changed = make(chan struct{})
}

var errUnknown = errors.New("the token is not accepted")

// Identify implements auth.Authenticator.
func (a *Authenticator) Identify(c auth.Credentials) (*auth.Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	token, sent := strings.CutPrefix(c.Authorization, "Bearer ")
	switch {
	case !sent && c.Authorization != "":
		return nil, errUnknown
	case !sent:
		return a.anonymous, nil
	case token == NodeToken:
		return &auth.Identity{Kind: auth.OfNode, Name: "node-1"}, nil
	}
	if id := a.known[token]; id != nil {
		return id, nil
	}
	return nil, errUnknown
}

// Vouched implements auth.Authenticator.
func (a *Authenticator) Vouched(name string) (*auth.Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name == a.anonymous.Name {
		return a.anonymous, nil
	}
	if id := a.known[name]; id != nil {
		return id, nil
	}
	return nil, errors.New("there is no such identity")
}

// Changed implements auth.Authenticator.
func (a *Authenticator) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// Current implements auth.Authenticator.
func (a *Authenticator) Current(id *auth.Identity) *auth.Identity {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch id.Kind {
	case auth.Named:
		return a.known[id.Name]
	case auth.Anonymous:
		return a.anonymous
	default:
		return id
	}
}
