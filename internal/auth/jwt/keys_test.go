package jwt

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestKeyFilesThatCannotBeUsed(t *testing.T) {
	e := newEC(t, "e")
	private, err := x509.MarshalPKCS8PrivateKey(e.private)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	key := func(k jose.JSONWebKey) string {
		data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k}})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	forEncryption := e.public()
	forEncryption.Use = "enc"
	for _, c := range []struct{ content, want string }{
		{"", "it has no PEM block"},
		{"text", "it has no PEM block"},
		{string(pemOf(t, e)) + "text", "something follows its 1 keys"},
		{string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), `a PEM block of the type "PRIVATE KEY": keep only public keys`},
		{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: private})), "a PEM block cannot be read"},
		{"{", "it is no JWKS"},
		{"{}", "it has no public key that checks signatures"},
		{`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`, "only public keys of RSA, ECDSA and Ed25519 are accepted"},
		{key(jose.JSONWebKey{Key: e.private}), "only public keys"},
		{key(jose.JSONWebKey{Key: &short.PublicKey}), "an RSA key of 1024 bits is too short"},
		{key(forEncryption), `it is for "enc" and not for signatures`},
		{strings.Repeat(" ", maxKeysSize+1), "and may have 1048576"},
	} {
		path := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readKeys(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "key-file of jwt: "+path) {
			t.Errorf("%.60q: %v", c.content, err)
		}
	}
	if _, err := readKeys(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "name a file with public keys") {
		t.Error(err)
	}
}

// TestOtherKeysOfAServerAreLeftOut gives a key set with keys for other purposes.
func TestOtherKeysOfAServerAreLeftOut(t *testing.T) {
	e := newEC(t, "e")
	data := strings.Replace(string(jwks(t, e)), "[", `[{"kty":"oct","k":"c2VjcmV0","kid":"e"},{"kty":"new"},`, 1)
	k, rejected, err := parseJWKS([]byte(data))
	if err != nil || len(rejected) != 2 || len(k.all) != 1 {
		t.Errorf("%+v, %v, %v", k, rejected, err)
	}
}

func FuzzKeys(f *testing.F) {
	f.Add(jwks(f, newEC(f, "e"), newEd25519(f, "d")))
	f.Add(pemOf(f, newEC(f, "e")))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) (*Keys, error){
			parsePEM, func(data []byte) (*Keys, error) { k, _, err := parseJWKS(data); return k, err },
		} {
			k, err := parse(data)
			if err != nil {
				continue
			}
			for _, key := range k.all {
				if !key.IsPublic() || checkKey(&key) != nil {
					t.Errorf("%+v", key)
				}
			}
		}
	})
}
