package identify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/jwt"
	"github.com/dkvdb/dkv/internal/auth/token"
)

// issuer makes JWTs.
type issuer struct {
	t       testing.TB
	key     *ecdsa.PrivateKey
	keyFile string
}

func newIssuer(t testing.TB) *issuer {
	i := &issuer{t: t, keyFile: filepath.Join(t.TempDir(), "keys.pem")}
	i.rotate()
	return i
}

// rotate replaces the key and its file.
func (i *issuer) rotate() {
	i.t.Helper()
	var err error
	if i.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		i.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(i.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		i.t.Fatal(err)
	}
}

// sign returns a JWT that ends after a time. grants are JSON, or "" for none.
func (i *issuer) sign(name, grants string, ends time.Duration) string {
	i.t.Helper()
	claims := map[string]any{"iss": "i", "aud": "a", "sub": name, "exp": time.Now().Add(ends).Unix()}
	if grants != "" {
		claims["dkv"] = json.RawMessage(grants)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"ES256"}`)) + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		i.t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature)
}

// accepting is the last line of a file that accepts the issuer's JWTs. It ends the list of
// identities, so it is written behind an entry.
func (i *issuer) accepting(entry string) string {
	return entry + "\njwt: {issuer: i, audience: a, grants-claim: dkv, key-file: '" + i.keyFile + "'}"
}

func TestJWTsShowIdentities(t *testing.T) {
	i := newIssuer(t)
	f := open(t, i.accepting("{name: reporting, jwt-names: ['reporting|1'], grants: [{role: read}]}"))
	mapped := f.identify(bearing(i.sign("reporting|1", `[{"role":"admin"}]`, time.Hour)))
	if mapped.Name != "reporting" || mapped.Carried || mapped.Allows(auth.Admin, "d") || !mapped.Allows(auth.Read, "d") || mapped.Expires.IsZero() {
		t.Errorf("a name of the file: %+v", mapped)
	}
	text := i.sign("alice", `[{"role":"write","databases":["orders"],"prefixes":["eu/"]}]`, time.Hour)
	for range 2 { // checked, and remembered
		own := f.identify(bearing(text))
		if own.Name != "alice" || !own.Carried || own.Credential != "jwt alice" || !own.Covers(auth.Write, "orders", auth.Prefix([]byte("eu/1"))) || own.Allows(auth.Read, "orders") {
			t.Errorf("grants of its own: %+v", own)
		}
		if ends := time.Until(own.Expires); ends < time.Hour || ends > time.Hour+time.Minute {
			t.Errorf("it ends in %v", ends)
		}
	}
	for what, c := range map[string]string{
		"neither grants nor a name of the file": i.sign("bob", "", time.Hour),
		"the name of an identity":               i.sign("reporting", `[{"role":"admin"}]`, time.Hour),
		"the name anonymous":                    i.sign("anonymous", `[{"role":"admin"}]`, time.Hour),
		"a name with a line break":              i.sign("a\nb", `[{"role":"read"}]`, time.Hour),
		"grants of the role node":               i.sign("bob", `[{"role":"node"}]`, time.Hour),
		"grants in another form":                i.sign("bob", `"admin"`, time.Hour),
		"ended":                                 i.sign("alice", `[{"role":"read"}]`, -time.Hour),
		"another issuer's key":                  newIssuer(t).sign("alice", `[{"role":"read"}]`, time.Hour),
		"a character more":                      text + "A",
		"a character less":                      text[:len(text)-1],
	} {
		f.rejects(what, bearing(c))
	}
	f.rejects("a token of another kind", bearing(token.New()))
}

// TestJWTsOfWithdrawnKeysAreRejected replaces the key file below an open file, also for JWTs
// that were checked before.
func TestJWTsOfWithdrawnKeysAreRejected(t *testing.T) {
	i := newIssuer(t)
	f := open(t, i.accepting("{name: a}"))
	before := bearing(i.sign("alice", `[{"role":"read"}]`, time.Hour))
	f.identify(before)
	verifier := f.current.Load().jwts
	f.reload(i.accepting("{name: b}"))
	if f.current.Load().jwts != verifier {
		t.Error("keys that have not changed are read again")
	}
	f.identify(before)
	i.rotate()
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	f.rejects("a JWT of the key before", before)
	f.identify(bearing(i.sign("alice", `[{"role":"read"}]`, time.Hour)))
	if err := os.WriteFile(i.keyFile, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err == nil || !strings.Contains(err.Error(), "key-file of jwt") {
		t.Error(err)
	}
	if err := Check(f.path); err == nil || !strings.Contains(err.Error(), "key-file of jwt") {
		t.Error(err)
	}
}

// TestJWTStreamsEnd asks for the identities of open streams again.
func TestJWTStreamsEnd(t *testing.T) {
	i := newIssuer(t)
	f := open(t, i.accepting("{name: a, jwt-names: [x, y]}"))
	own := f.identify(bearing(i.sign("alice", `[{"role":"read"}]`, time.Hour)))
	x, y := f.identify(bearing(i.sign("x", "", time.Hour))), f.identify(bearing(i.sign("y", "", time.Hour)))
	f.reload(i.accepting("{name: a, jwt-names: [y], grants: [{role: read}]}"))
	if now := f.Current(own); now != own {
		t.Errorf("its own grants: %+v", now)
	}
	if now := f.Current(x); now != nil {
		t.Errorf("a name that was removed: %+v", now)
	}
	if now := f.Current(y); now == nil || !now.Allows(auth.Read, "d") || !now.Expires.Equal(y.Expires) {
		t.Errorf("a name of the file: %+v", now)
	}
	f.reload("{name: a}")
	if now := f.Current(own); now != nil {
		t.Errorf("without JWTs: %+v", now)
	}
}

// TestJWTStreamsEndWithTheirKey: a stream does not outlive the key that its JWT was checked
// with, nor the issuer or the audience; other keys do not matter to it.
func TestJWTStreamsEndWithTheirKey(t *testing.T) {
	i, other := newIssuer(t), newIssuer(t)
	accepting := i.accepting("{name: a, jwt-names: [x], grants: [{role: read}]}")
	f := open(t, accepting)
	own, named := f.identify(bearing(i.sign("alice", `[{"role":"read"}]`, time.Hour))), f.identify(bearing(i.sign("x", "", time.Hour)))
	wantOpen := func(what string, open bool) {
		t.Helper()
		for _, id := range []*auth.Identity{own, named} {
			if now := f.Current(id); (now != nil) != open {
				t.Errorf("%s: %s is %+v", what, id.Name, now)
			}
		}
	}
	var both []byte
	for _, path := range []string{i.keyFile, other.keyFile} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, data...)
	}
	if err := os.WriteFile(i.keyFile, both, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	wantOpen("another key was added", true)
	f.reload(strings.Replace(accepting, "audience: a", "audience: b", 1))
	wantOpen("another audience", false)
	f.reload(accepting)
	wantOpen("the audience from before", true)
	changed := f.Changed()
	i.rotate()
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("streams do not hear that a key was withdrawn")
	}
	wantOpen("its key was withdrawn", false)
}

// TestStreamsHearOfKeysThatWereFetched: keys that a server no longer publishes end streams,
// too.
func TestStreamsHearOfKeysThatWereFetched(t *testing.T) {
	i := newIssuer(t)
	f := open(t, i.accepting("{name: a}"))
	changed := f.Changed()
	keys := f.sinceKeys(nil)
	f.sinceKeys(keys)
	select {
	case <-changed:
		t.Error("streams hear of a change that is none")
	default:
	}
	f.sinceKeys(new(jwt.Keys))
	select {
	case <-changed:
	default:
		t.Error("streams do not hear of other keys")
	}
}
