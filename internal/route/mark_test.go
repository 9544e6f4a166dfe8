package route

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

// TestForwardedRequestNamesItsCaller: the owner checks a forwarded call with the grants of
// its caller, not with the rights of the node that forwards it.
func TestForwardedRequestNamesItsCaller(t *testing.T) {
	carried := &auth.Identity{Kind: auth.Named, Name: "jwt", Carried: true, Expires: time.Unix(1<<31, 0),
		Grants: []auth.Grant{{Role: auth.Read, Prefixes: [][]byte{[]byte("a/")}}}}
	for name, c := range map[string]struct {
		id   *auth.Identity
		want string
	}{
		"a node without identities":            {nil, ""},
		"the node itself":                      {&auth.Identity{Kind: auth.OfNode, Name: "n1"}, ""},
		"an identity of the file":              {&auth.Identity{Kind: auth.Named, Name: "alice"}, "alice"},
		"an identity of a JWT":                 {carried, "jwt"},
		"a caller without credentials":         {&auth.Identity{Kind: auth.Anonymous, Name: "anonymous"}, "anonymous"},
		"a caller of a node without auth-file": {&auth.Identity{Kind: auth.Open}, "anonymous"},
	} {
		ctx := auth.NewContext(t.Context(), c.id)
		byKey, err := forwardedContext(ctx, []VBucket{{Name: "0"}})
		byRegistry, err2 := RegistryForwarded.Set(ctx)
		if err != nil || err2 != nil {
			t.Fatal(name, err, err2)
		}
		for _, sent := range []context.Context{byKey, byRegistry} {
			md, _ := metadata.FromOutgoingContext(sent)
			if got := md.Get("dkv-identity"); c.want == "" && len(got) != 0 || c.want != "" && !slices.Equal(got, []string{c.want}) {
				t.Errorf("%s: dkv-identity %q, want %q", name, got, c.want)
			}
			if got := md.Get("dkv-grants"); (len(got) == 1) != (c.id == carried) {
				t.Errorf("%s: dkv-grants %q", name, got)
			} else if len(got) == 1 {
				id, err := auth.DecodeGrants(c.want, got[0])
				if err != nil || !id.CoversKey(auth.Read, "d", []byte("a/1")) || id.CoversKey(auth.Read, "d", []byte("b")) {
					t.Errorf("%s: the receiver finds %+v, %v", name, id, err)
				}
			}
		}
	}
}

// TestGrantsThatCannotBeSent: a call whose grants do not fit a header is rejected, and not
// forwarded as the node's own.
func TestGrantsThatCannotBeSent(t *testing.T) {
	big := &auth.Identity{Kind: auth.Named, Name: "jwt", Carried: true, Grants: []auth.Grant{{Role: auth.Read, Prefixes: [][]byte{make([]byte, auth.MaxEncodedGrants)}}}}
	ctx := auth.NewContext(t.Context(), big)
	if _, err := forwardedContext(ctx, nil); kv.KindOf(err) != kv.Denied {
		t.Error(err)
	}
	if _, err := Forwarded.Set(ctx); kv.KindOf(err) != kv.Denied {
		t.Error(err)
	}
}
