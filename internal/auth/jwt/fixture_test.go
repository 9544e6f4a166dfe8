package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dkvdb/dkv/internal/auth/policy"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// signer makes JWTs with a private key.
type signer struct {
	algorithm jose.SignatureAlgorithm
	id        string
	private   any
}

func newRSA(t testing.TB, id string) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signer{jose.RS256, id, key}
}

func newEC(t testing.TB, id string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{jose.ES256, id, key}
}

func newEd25519(t testing.TB, id string) signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{jose.EdDSA, id, key}
}

// public is the signer's key as servers publish it.
func (s signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.private.(crypto.Signer).Public(), KeyID: s.id, Use: "sig"}
}

// sign returns a JWT.
func (s signer) sign(t testing.TB, claims any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	made, err := jose.NewSigner(jose.SigningKey{Algorithm: s.algorithm, Key: jose.JSONWebKey{Key: s.private, KeyID: s.id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := made.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// claims are those of a JWT that is valid for an hour, with the changes given; nil removes a
// claim.
func claims(changes map[string]any) map[string]any {
	c := map[string]any{"iss": "https://issuer", "aud": "dkv", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range changes {
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
	}
	return maps.Clone(c)
}

// jwks is a key set as servers publish it.
func jwks(t testing.TB, signers ...signer) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, s := range signers {
		set.Keys = append(set.Keys, s.public())
	}
	data, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// pemOf is the public keys in PEM.
func pemOf(t testing.TB, signers ...signer) []byte {
	t.Helper()
	var data []byte
	for _, s := range signers {
		der, err := x509.MarshalPKIXPublicKey(s.public().Key)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return data
}

// policyOf accepts the JWTs of claims, of all algorithms, by the keys of a file.
func policyOf(t testing.TB, keys []byte) policy.JWT {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse("auth.yaml", []byte("jwt: {issuer: 'https://issuer', audience: dkv, grants-claim: dkv, key-file: '"+path+"'}"))
	if err != nil {
		t.Fatal(err)
	}
	return *p.JWT
}

// verifier checks JWTs by the keys of a file.
func verifier(t testing.TB, keys []byte) *Verifier {
	t.Helper()
	v, err := New(policyOf(t, keys), telemetry.NewLogger(telemetry.LogOptions{Writer: t.Output()}))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
