package jwt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestKeysOfEachKindAreAccepted(t *testing.T) {
	signers := []signer{newRSA(t, "r"), newEC(t, "e"), newEd25519(t, "d")}
	pss := signers[0]
	pss.algorithm = jose.PS384
	for form, v := range map[string]*Verifier{"JWKS": verifier(t, jwks(t, signers...)), "PEM": verifier(t, pemOf(t, signers...))} {
		for _, s := range append(signers, pss) {
			c, err := v.Verify(s.sign(t, claims(map[string]any{"dkv": []any{}})))
			if err != nil {
				t.Errorf("%s and %s: %v", form, s.algorithm, err)
			} else if c.Name != "alice" || string(c.Grants) != "[]" || c.Keys != v.Keys() {
				t.Errorf("%s and %s: %+v", form, s.algorithm, c)
			}
		}
	}
}

func TestClaimsAreChecked(t *testing.T) {
	s := newEC(t, "e")
	v := verifier(t, jwks(t, s))
	now := time.Now().Unix()
	for _, c := range []struct {
		name    string
		changes map[string]any
		want    string // the error; "" if the token is accepted
	}{
		{"as it should be", nil, ""},
		{"several audiences", map[string]any{"aud": []string{"other", "dkv"}}, ""},
		{"ended within the leeway", map[string]any{"exp": now - 20}, ""},
		{"valid within the leeway", map[string]any{"nbf": now + 20}, ""},
		{"ended", map[string]any{"exp": now - 40}, "it has ended"},
		{"not valid yet", map[string]any{"nbf": now + 40}, "not valid yet"},
		{"issued in the future", map[string]any{"iat": now + 40}, "issued in the future"},
		{"endless", map[string]any{"exp": nil}, "it never ends"},
		{"an end that is text", map[string]any{"exp": "never"}, "other types"},
		{"another issuer", map[string]any{"iss": "https://issuer/"}, "its issuer"},
		{"no issuer", map[string]any{"iss": nil}, "its issuer"},
		{"another audience", map[string]any{"aud": "other"}, "meant for others"},
		{"no audience", map[string]any{"aud": nil}, "meant for others"},
		{"no audience in a list", map[string]any{"aud": []string{}}, "meant for others"},
		{"no name", map[string]any{"sub": nil}, "claim sub is no name"},
		{"an empty name", map[string]any{"sub": ""}, "claim sub is no name"},
		{"a name that is a number", map[string]any{"sub": 7}, "other types"},
	} {
		got, err := v.Verify(s.sign(t, claims(c.changes)))
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", c.name, err)
		case err == nil && got.Grants != nil:
			t.Errorf("%s: grants %s", c.name, got.Grants)
		}
	}
	if _, err := v.Verify(s.sign(t, []string{"a"})); err == nil {
		t.Error("claims that are a list are accepted")
	}
}

// TestForgeriesAreRejected tries the known attacks on servers that believe a token's header.
func TestForgeriesAreRejected(t *testing.T) {
	s, other := newRSA(t, "r"), newRSA(t, "r")
	v := verifier(t, pemOf(t, s))
	good := s.sign(t, claims(nil))
	parts := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	// signed with the public key, as if that was a shared secret
	input := encode([]byte(`{"alg":"HS256"}`)) + "." + parts[1]
	mac := hmac.New(sha256.New, pemOf(t, s))
	mac.Write([]byte(input))
	// with the key to check it in its header
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: other.private}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	signed, err := embedded.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	own, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"none":                         encode([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"None":                         encode([]byte(`{"alg":"None"}`)) + "." + parts[1] + ".",
		"no algorithm":                 encode([]byte(`{}`)) + "." + parts[1] + "." + parts[2],
		"HMAC with the public key":     input + "." + encode(mac.Sum(nil)),
		"a key of its own":             own,
		"another key of the same name": other.sign(t, claims(nil)),
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"other claims":                 parts[0] + "." + encode([]byte(`{"sub":"root"}`)) + "." + parts[2],
		"a critical extension":         encode([]byte(`{"alg":"RS256","crit":["x"],"x":1}`)) + "." + parts[1] + "." + parts[2],
		"the JSON form":                signed.FullSerialize(),
		"two parts":                    parts[0] + "." + parts[1],
		"nothing":                      "",
		"dots":                         "..",
		"many dots":                    strings.Repeat(".", 8000),
	} {
		if c, err := v.Verify(text); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if _, err := v.Verify(good); err != nil {
		t.Error(err)
	}
}

func TestAlgorithmsCanBeNarrowed(t *testing.T) {
	r, e := newRSA(t, "r"), newEC(t, "e")
	p := policyOf(t, jwks(t, r, e))
	p.Algorithms = []string{"ES256"}
	v, err := New(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(e.sign(t, claims(nil))); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(r.sign(t, claims(nil))); err == nil {
		t.Error("RS256 is accepted")
	}
	if !v.Same(p) || verifier(t, jwks(t, e)).Same(p) {
		t.Error("a policy is not compared with another one")
	}
}

func FuzzVerify(f *testing.F) {
	s := newEd25519(f, "d")
	v := verifier(f, jwks(f, s))
	good := s.sign(f, claims(nil))
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := v.Verify(text); err == nil && c.Name != "alice" {
			t.Errorf("%q shows %+v", text, c)
		}
	})
}
