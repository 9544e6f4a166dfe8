package auth

import (
	"context"
	"fmt"
)

// The metadata of a call that a node forwards: whose call it is, and the grants of an
// identity that the receiver does not find in its file.
const (
	IdentityKey = "dkv-identity"
	GrantsKey   = "dkv-grants"
)

// Vouch returns the metadata, in pairs, with which a node forwards a call of a context: the
// receiver checks it with the grants of its caller. It is empty for the node's own calls, and
// on a node whose callers are not distinguished.
func Vouch(ctx context.Context) ([]string, error) {
	id := FromContext(ctx)
	switch {
	case id == nil || id.Kind == OfNode:
		return nil, nil
	case id.Kind == Open || id.Kind == Anonymous:
		// A node without auth-file knows no one. A receiver that has one must not take its
		// callers for the node.
		return []string{IdentityKey, anonymousName}, nil
	case !id.Carried:
		return []string{IdentityKey, id.Name}, nil
	}
	grants, err := EncodeGrants(id)
	if err != nil {
		return nil, fmt.Errorf("a call cannot be forwarded: %w", err)
	}
	return []string{IdentityKey, id.Name, GrantsKey, grants}, nil
}

// anonymousName is the name under which a file gives grants to callers without credentials.
const anonymousName = "anonymous"
