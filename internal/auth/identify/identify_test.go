package identify

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

func TestTokensShowIdentities(t *testing.T) {
	old, oldHash := newToken(t)
	next, nextHash := newToken(t)
	other, otherHash := newToken(t)
	f := open(t, entry("reporting", oldHash, nextHash), entry("loader", otherHash))
	for text, name := range map[string]string{old: "reporting", next: "reporting", other: "loader"} {
		id, _ := token.IDOf(text)
		for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
			i := f.identify(auth.Credentials{Authorization: scheme + text})
			if i.Kind != auth.Named || i.Name != name || i.Credential != "token "+id || !i.Allows(auth.Read, "d") || i.Allows(auth.Write, "d") {
				t.Errorf("%+v", i)
			}
		}
	}
	if i := f.identify(auth.Credentials{}); i.Kind != auth.Anonymous || i.Allows(auth.Read, "d") {
		t.Errorf("nothing shows %+v", i)
	}
}

func TestWrongTokensAreRejectedAlike(t *testing.T) {
	text, hash := newToken(t)
	ended, endedHash := newToken(t)
	f := open(t, entry("a", hash), "{name: b, tokens: [{hash: "+endedHash+", not-after: 2020-01-01}]}")
	id, _ := token.IDOf(text)
	for what, value := range map[string]string{
		"no scheme": text, "basic": "Basic " + text, "nothing behind the scheme": "Bearer ", "half a token": "Bearer " + text[:30],
		"another token": "Bearer " + token.New(), "the ID with another secret": "Bearer dkv_" + id + token.New()[12:],
		"two tokens": "Bearer " + text + " " + text, "the hash": "Bearer " + hash, "ended": "Bearer " + ended,
		"too long": "Bearer " + strings.Repeat(" ", maxAuthorization) + text,
	} {
		f.rejects(what, auth.Credentials{Authorization: value})
	}
	f.identify(bearing(text))
}

// TestTokenDecidesAlone holds the first rule of the design: a wrong token is not excused by a
// right certificate, or by what anonymous may do.
func TestTokenDecidesAlone(t *testing.T) {
	ca := certs.New(t)
	text, hash := newToken(t)
	f := open(t, entry("a", hash), "{name: c, certificates: [c.example.com]}", "{name: anonymous, grants: [{role: read}]}")
	for _, name := range []string{"c.example.com", "node.dkv"} {
		c := showing(ca.Issue(t, name).Certificate)
		if i := f.identify(c); i.Credential == "" && i.Kind != auth.OfNode {
			t.Errorf("%+v", i)
		}
		c.Authorization = "Bearer " + token.New()
		f.rejects("a wrong token with the certificate of "+name, c)
		c.Authorization = "Bearer " + text
		if i := f.identify(c); i.Name != "a" {
			t.Errorf("a token with the certificate of %s shows %+v", name, i)
		}
	}
	if i := f.identify(auth.Credentials{TLS: new(tls.ConnectionState)}); i.Kind != auth.Anonymous || !i.Allows(auth.Read, "d") {
		t.Errorf("no certificate shows %+v", i)
	}
}

func TestCertificatesShowIdentities(t *testing.T) {
	ca := certs.New(t)
	f := open(t, "{name: a, certificates: [a.example.com, also-a.example.com], grants: [{role: read}]}", "{name: b, certificates: [b.example.com]}")
	one := showing(ca.Issue(t, "x.example.com", "a.example.com").Certificate)
	for range 2 { // looked up, and remembered
		i := f.identify(one)
		if i.Name != "a" || i.Kind != auth.Named || i.Credential != "certificate a.example.com" {
			t.Errorf("%+v", i)
		}
	}
	if i := f.identify(showing(ca.Issue(t, "a.example.com", "also-a.example.com").Certificate)); i.Name != "a" {
		t.Errorf("%+v", i)
	}
	node := f.identify(showing(ca.Issue(t, "node.dkv", "n1.example.com", "a.example.com").Certificate))
	if node.Kind != auth.OfNode || node.Name != "n1.example.com" {
		t.Errorf("%+v", node)
	}
	f.rejects("an unknown name", showing(ca.Issue(t, "z.example.com").Certificate))
	f.rejects("names of two identities", showing(ca.Issue(t, "a.example.com", "b.example.com").Certificate))
	f.rejects("part of a name", showing(ca.Issue(t, "example.com").Certificate))
	unverified := showing(ca.Issue(t, "a.example.com").Certificate)
	unverified.TLS.VerifiedChains = nil
	if i := f.identify(unverified); i.Kind != auth.Anonymous {
		t.Errorf("a certificate that was not verified shows %+v", i)
	}
	f.reload("{name: b, certificates: [b.example.com]}")
	f.rejects("a name that was removed", one)
}

// TestNodesAreToldApartByName: every node has the name of nodes, and most have localhost.
func TestNodesAreToldApartByName(t *testing.T) {
	ca := certs.New(t)
	f := open(t, entry("a"))
	for want, r := range map[string]certs.Request{
		"n1.example.com": {Hosts: []string{"localhost", "127.0.0.1", "::1", "node.dkv", "n1.example.com"}},
		"n2.example.com": {Name: "n2.example.com", Hosts: []string{"alias.example.com", "n2.example.com", "localhost", "node.dkv"}},
		"10.0.0.3":       {Name: "10.0.0.3", Hosts: []string{"10.0.0.3", "localhost", "node.dkv"}},
		"10.0.0.4":       {Name: "127.0.0.1", Hosts: []string{"127.0.0.1", "localhost", "node.dkv", "10.0.0.4"}},
		"node.dkv":       {Name: "localhost", Hosts: []string{"localhost", "node.dkv", "127.0.0.1"}},
	} {
		if i := f.identify(showing(ca.Sign(t, r).Certificate)); i.Kind != auth.OfNode || i.Name != want {
			t.Errorf("%+v is named %q", r, i.Name)
		}
	}
}

// TestOpenConnectionsOutliveTheirCertificate makes calls and asks for the identity of a stream
// when the certificate of the handshake has ended. The connections between nodes last longer
// than certificates; a name that is removed from the file ends them all the same.
func TestOpenConnectionsOutliveTheirCertificate(t *testing.T) {
	ca := certs.New(t)
	f := open(t, "{name: a, certificates: [a.example.com]}")
	for _, name := range []string{"node.dkv", "a.example.com"} {
		c := showing(ca.Issue(t, name).Certificate)
		before := f.identify(c)
		c.TLS.PeerCertificates[0].NotAfter = time.Now().Add(-time.Second)
		if i := f.identify(c); !i.Expires.IsZero() || f.Current(before) == nil {
			t.Errorf("%s: %+v", name, i)
		}
	}
}

func TestForwardedNames(t *testing.T) {
	_, hash := newToken(t)
	f := open(t, entry("a", hash))
	if i, err := f.Vouched("a"); err != nil || i.Name != "a" || i.Kind != auth.Named || !i.Allows(auth.Read, "d") {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := f.Vouched("anonymous"); err != nil || i.Kind != auth.Anonymous {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := f.Vouched("b"); err != auth.ErrRejected {
		t.Errorf("%+v, %v", i, err)
	}
}

// TestStreamsSeeRevocations asks for the identity of an open stream again after changes.
func TestStreamsSeeRevocations(t *testing.T) {
	ca := certs.New(t)
	first, firstHash := newToken(t)
	second, secondHash := newToken(t)
	f := open(t, entry("a", firstHash, secondHash), "{name: c, certificates: [c.example.com], grants: [{role: read}]}")
	byFirst, bySecond := f.identify(bearing(first)), f.identify(bearing(second))
	byCertificate := f.identify(showing(ca.Issue(t, "c.example.com").Certificate))
	forwarded, err := f.Vouched("a")
	if err != nil {
		t.Fatal(err)
	}
	via := *forwarded
	via.Via = "n2"
	anonymous := f.identify(auth.Credentials{})
	carried := &auth.Identity{Kind: auth.Named, Name: "j", Via: "n2", Carried: true, Expires: time.Now().Add(time.Hour)}
	changed := f.Changed()

	f.reload("{name: a, tokens: ["+secondHash+"], grants: [{role: write}]}", "{name: c, certificates: [d.example.com], grants: [{role: read}]}",
		"{name: anonymous, grants: [{role: watch}]}")
	select {
	case <-changed:
	default:
		t.Error("streams do not hear of the change")
	}
	if i := f.Current(byFirst); i != nil {
		t.Errorf("a removed token still shows %+v", i)
	}
	if i := f.Current(bySecond); i == nil || i.Allows(auth.Read, "d") || !i.Allows(auth.Write, "d") {
		t.Errorf("the other token shows %+v", i)
	}
	if i := f.Current(byCertificate); i != nil {
		t.Errorf("a removed certificate still shows %+v", i)
	}
	if i := f.Current(&via); i == nil || i.Via != "n2" || !i.Allows(auth.Write, "d") {
		t.Errorf("the forwarded name means %+v", i)
	}
	if i := f.Current(anonymous); i == nil || !i.Allows(auth.Watch, "d") {
		t.Errorf("anonymous is %+v", i)
	}
	if i := f.Current(carried); i != carried {
		t.Errorf("an identity that is not of the file is %+v", i)
	}
	carried.Expires = time.Now().Add(-time.Second)
	if i := f.Current(carried); i != nil {
		t.Errorf("an identity that has ended is %+v", i)
	}
}

func TestIdentifyDoesNotAllocate(t *testing.T) {
	f, shown := everyKind(t)
	for name, c := range shown {
		f.identify(c)
		if n := testing.AllocsPerRun(100, func() { _, _ = f.Identify(c) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkIdentify(b *testing.B) {
	f, shown := everyKind(b)
	for name, c := range shown {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Identify(c)
			}
		})
	}
}

// everyKind returns a file and credentials of each kind that it accepts.
func everyKind(t testing.TB) (*fixture, map[string]auth.Credentials) {
	ca := certs.New(t)
	text, hash := newToken(t)
	i := newIssuer(t)
	f := open(t, entry("a", hash), i.accepting("{name: c, certificates: [c.example.com]}"))
	return f, map[string]auth.Credentials{
		"nothing":     {},
		"token":       bearing(text),
		"jwt":         bearing(i.sign("alice", `[{"role":"read"}]`, time.Hour)),
		"certificate": showing(ca.Issue(t, "c.example.com").Certificate),
		"node":        showing(ca.Issue(t, "node.dkv").Certificate),
	}
}

func FuzzAuthorization(f *testing.F) {
	text, hash := newToken(f)
	file := open(f, entry("a", hash))
	f.Add("Bearer " + text)
	f.Add("bearer  " + text + " ")
	f.Add("Bearer a.b.c")
	f.Fuzz(func(t *testing.T, value string) {
		// Identify would answer later and later.
		i, why, _ := file.current.Load().authorization(value)
		if why == accepted && (i.Name != "a" || !strings.Contains(value, text)) {
			t.Errorf("%q shows %+v", value, i)
		}
	})
}
