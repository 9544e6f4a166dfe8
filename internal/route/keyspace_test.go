package route

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/internal/kv"
)

// TestKeyspace splits a keyspace. The vBucket of a key is the one that clients compute:
// (xxhash64(key) & 0xFFFF) mod N.
func TestKeyspace(t *testing.T) {
	k := NewKeyspace(VBucket{Name: "a"}, VBucket{Name: "b"}, VBucket{Name: "c"}, VBucket{Name: "d"})
	// xxhash64 of "" is 0xef46db3751d8e999, of "a" 0xd24ec4f1a98c6e5b, of "abc"
	// 0x44bc2cf5ad770999: published test vectors.
	for key, want := range map[string]string{"": "b", "a": "d", "abc": "b"} {
		if got := k.Of([]byte(key)).Name; got != want {
			t.Errorf("%q is in %s, want %s", key, got, want)
		}
	}
	if v, err := k.Named("c"); err != nil || v.Name != "c" || len(k.All()) != 4 {
		t.Errorf("%v, %v", v.Name, err)
	}
	if _, err := k.Only(); kv.KindOf(err) != kv.Invalid || err.Error() != "this node has 4 vBuckets; say which one" {
		t.Errorf("%v", err)
	}
	if _, err := k.Named("x"); kv.KindOf(err) != kv.NotFound || err.Error() != `this node has no vBucket "x"; it has [a b c d]` {
		t.Errorf("%v", err)
	}
	if v := k.First(nil); v.Name != "a" {
		t.Errorf("without keys it is %s", v.Name)
	}
	if v := k.First([][]byte{[]byte("abc"), []byte("a")}); v.Name != "b" {
		t.Errorf("it is %s, which does not have the first key", v.Name)
	}
}

// TestRequestedVBuckets: a forwarded request is about the vBuckets that it names, any other
// about all, whatever it says.
func TestRequestedVBuckets(t *testing.T) {
	k := NewKeyspace(VBucket{Name: "a"}, VBucket{Name: "b"}, VBucket{Name: "c"})
	for name, c := range map[string]struct {
		md   metadata.MD
		want string
		kind kv.Kind
	}{
		"a client's":        {metadata.Pairs("dkv-vbucket", "b"), "abc", 0},
		"forwarded for all": {metadata.Pairs("dkv-forwarded", "1"), "abc", 0},
		"forwarded for two": {metadata.Pairs("dkv-forwarded", "1", "dkv-vbucket", "c", "dkv-vbucket", "a"), "ca", 0},
		"for more than all": {metadata.Pairs("dkv-forwarded", "1", "dkv-vbucket", "a", "dkv-vbucket", "b", "dkv-vbucket", "c", "dkv-vbucket", "a"), "", kv.Invalid},
		"of no vBucket":     {metadata.Pairs("dkv-forwarded", "1", "dkv-vbucket", "x"), "", kv.NotFound},
	} {
		vs, err := k.Requested(metadata.NewIncomingContext(t.Context(), c.md))
		got := ""
		for _, v := range vs {
			got += v.Name
		}
		if got != c.want || err != nil && kv.KindOf(err) != c.kind || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// of is a place of a client.
type of struct {
	kv.Place
	client kv.Client
}

func (o of) Client() kv.Client { return o.client }

// TestForwardedRequestNamesItsVBuckets: nodes of every release read these keys.
func TestForwardedRequestNamesItsVBuckets(t *testing.T) {
	sent := func(ctx context.Context, err error) metadata.MD {
		if err != nil {
			t.Fatal(err)
		}
		md, _ := metadata.FromOutgoingContext(ctx)
		return md
	}
	out := sent(forwardedContext(t.Context(), []VBucket{{Name: "b"}, {Name: "c"}}))
	in := metadata.NewIncomingContext(t.Context(), out)
	if !Forwarded.In(in) || RegistryForwarded.In(in) || len(out["dkv-vbucket"]) != 2 || out["dkv-vbucket"][1] != "c" {
		t.Errorf("metadata %v", out)
	}
	client := kv.Client{Host: netip.MustParseAddr("2001:db8::1"), Conn: 4}
	out = sent(forwardedContext(context.WithValue(t.Context(), kv.PlaceKey{}, of{client: client}), nil))
	if said, ok := kv.ParseClient(strings.Join(out[kv.ClientKey], "")); said != client || !ok {
		t.Errorf("metadata %v", out)
	}
	out = sent(RegistryForwarded.Set(t.Context()))
	if len(out["dkv-discovery-forwarded"]) != 1 || len(out) != 1 {
		t.Errorf("metadata %v", out)
	}
}
