package policy

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/token"
)

// hashes of tokens that no test needs in the clear.
const (
	hashA = "sha256:aaaaaaaa:0000000000000000000000000000000000000000000000000000000000000001"
	hashB = "sha256:bbbbbbbb:0000000000000000000000000000000000000000000000000000000000000002"
	hashC = "sha256:cccccccc:0000000000000000000000000000000000000000000000000000000000000003"
)

const full = `# who may do what
identities:
  - name: reporting
    tokens:
      - ` + hashA + `
      - {hash: "` + hashB + `", not-after: 2030-01-31}
    certificates: ["reporting.example.com", "spiffe://example/reporting"]
    jwt-names: ["reporting@example.com"]
    grants:
      - {role: read, databases: [orders], prefixes: ["eu/", "us/"], prefixes-hex: ["ff00"], prefixes-base64: ["AAE="]}
      - role: admin
    limits: {requests-per-second: 1000, requests-in-flight: 100, streams: 10}
  - name: anonymous
    grants: [{role: watch}]
jwt:
  issuer: https://login.example.com
  audience: dkv
  jwks-url: https://login.example.com/keys
  ca-file: ca.pem
  grants-claim: dkv
  algorithms: [RS256, EdDSA]
`

func TestParse(t *testing.T) {
	got, err := Parse("auth.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := &Policy{
		Identities: []Identity{{
			Name: "reporting",
			Tokens: []Token{
				{ID: "aaaaaaaa", Digest: token.Digest{31: 1}},
				{ID: "bbbbbbbb", Digest: token.Digest{31: 2}, NotAfter: time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC)},
			},
			Certificates: []string{"reporting.example.com", "spiffe://example/reporting"},
			JWTNames:     []string{"reporting@example.com"},
			Grants: []auth.Grant{
				{Role: auth.Read, Databases: []string{"orders"}, Prefixes: [][]byte{[]byte("eu/"), []byte("us/"), {0xff, 0}, {0, 1}}},
				{Role: auth.Admin},
			},
			Limits: &auth.Limits{RequestsPerSecond: 1000, RequestsInFlight: 100, Streams: 10},
		}, {
			Name:   "anonymous",
			Grants: []auth.Grant{{Role: auth.Watch}},
		}},
		JWT: &JWT{
			Issuer: "https://login.example.com", Audience: "dkv", URL: "https://login.example.com/keys", CAFile: "ca.pem",
			NameClaim: "sub", GrantsClaim: "dkv", Algorithms: []string{"RS256", "EdDSA"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

// TestMistakesAreNamedWithLineAndRemedy covers each rule of the file.
func TestMistakesAreNamedWithLineAndRemedy(t *testing.T) {
	// with is an identity in lines 2 and 3, and one more key of it in line 4.
	with := func(key string) string {
		return "identities:\n  - name: a\n    certificates: [c]\n    " + key + "\n"
	}
	for _, c := range []mistake{
		{"", "auth.yaml is empty: write the key identities"},
		{"# nothing\n", "auth.yaml is empty: write the key identities"},
		{"identities: []\n", "auth.yaml has no identities: write at least one"},
		{"[a]", "auth.yaml:1: the file is not a map: write lines of the form key: value"},
		{"identities:\n\t- a", "auth.yaml is not valid YAML: line 2: found character that cannot start any token"},
		{"identity: []\n", `auth.yaml:1: unknown key "identity" in the file: did you mean identities?`},
		{with("grants: []") + "---\na: b\n", "auth.yaml:5: a second document begins here: keep one, the rest would be ignored"},
		{with("grants: []") + "identities: []\n", "auth.yaml:5: identities is already set in line 1: keep one of the two"},
		{"identities: {a: b}", "auth.yaml:1: a list of identities is expected here: write [a, b], or one after a dash on each line"},
		{"identities: &x [*x]", "auth.yaml:1: an identity is not a map: write lines of the form key: value"},
		{"identities:\n  - grants: []\n", "auth.yaml:2: an identity without a name: add the key name"},
		{"identities:\n  - name: a b\n", `auth.yaml:2: the name "a b" has a character that names cannot have: write letters, digits`},
		{"identities:\n  - name: " + strings.Repeat("a", 129), `has 129 characters: write 1 to 128`},
		{"identities:\n  - name: ''", `auth.yaml:2: name has no plain value: write one, or remove the key`},
		{with("secret: s"), `auth.yaml:4: unknown key "secret" in an identity: it may have certificates, grants, jwt-names, limits, name, tokens`},
		{with("token: []"), `auth.yaml:4: unknown key "token" in an identity: did you mean tokens?`},
		{with("grants: []") + "  - name: a\n", `auth.yaml:5: the name "a" is in line 2 already: it can mean one identity only`},
		{with("grants: []") + "  - {name: b, certificates: [c]}\n", `auth.yaml:5: the certificate "c" is in line 2 already`},
		{with("jwt-names: [n]") + "  - {name: b, jwt-names: [n]}\n", `auth.yaml:5: the jwt-name "n" is in line 2 already`},
		{with("jwt-names: [n]"), `identity "a" has jwt-names, but the file accepts no JWTs: write the key jwt, or remove the names`},
		{with("tokens: [" + hashA + "]\n    limits: {}\n  - name: b\n    tokens: [" + hashA + "]"), `auth.yaml:7: the token "aaaaaaaa" is in line 4 already`},
		{with("tokens: [" + hashA + ", " + hashB + ", " + hashC + "]"), "auth.yaml:4: a third token: keep the one in use and the one that replaces it"},
		{with("tokens: [" + token.New() + "]"), "auth.yaml:4: a token in the clear: write its hash, which dkvctl -token new prints, and replace the token"},
		{with("tokens: [secret]"), `auth.yaml:4: the hash of a token: it does not have the form "sha256:ID:HASH"`},
		{with("tokens: [{hash: " + hashA + ", not-after: soon}]"), `auth.yaml:4: not-after "soon" is not a time: write 2030-01-31 or 2030-01-31T12:00:00Z`},
		{with("tokens: [{not-after: 2030-01-31}]"), `auth.yaml:4: the hash of a token: it does not have the form`},
		{with("tokens: " + hashA), "auth.yaml:4: a list of tokens is expected here"},
		{with("certificates: [d]"), "auth.yaml:4: certificates is already set in line 3: keep one of the two"},
		{with("jwt-names: [d, d]"), `auth.yaml:4: "d" is in the list already: remove one of the two`},
		{"identities: [{name: anonymous, tokens: [" + hashA + "]}]", "auth.yaml:1: anonymous is the identity of calls that show nothing, so it has no tokens"},
		{with("grants: [{databases: [d]}]"), "auth.yaml:4: a grant has no role: add the key role"},
		{with("grants: [{role: root}]"), `auth.yaml:4: a grant has the unknown role "root": write read, write, watch, replication or admin`},
		{with("grants: [{role: node}]"), "auth.yaml:4: a grant of the role node cannot be given: it comes with the certificate of a node"},
		{with("grants: [{role: replication, prefixes: [a]}]"), "auth.yaml:4: a grant of the role replication has prefixes, but its calls are not about single keys: remove"},
		{with("grants: [{role: admin, prefixes: [a]}]"), "auth.yaml:4: a grant of the role admin has prefixes"},
		{with("grants: [{role: read, prefixes: ['']}]"), "auth.yaml:4: prefixes has no plain value: write one, or remove the key"},
		{with("grants: [{role: read, prefixes-hex: ['']}]"), "auth.yaml:4: prefixes-hex has no plain value"},
		{with("grants: [{role: read, prefixes-hex: [f]}]"), `auth.yaml:4: a grant has the prefix "f", which is not hexadecimal: write two digits for each byte`},
		{with("grants: [{role: read, prefixes-base64: ['a']}]"), `auth.yaml:4: a grant has the prefix "a", which is not base64`},
		{with("grants: [{role: read, prefixes: []}]"), "auth.yaml:4: prefixes is an empty list: name what the grant is for, or remove the key to grant all"},
		{with("grants: [{role: read, databases: []}]"), "auth.yaml:4: databases is an empty list"},
		{with("grants: [{role: read, prefix: a}]"), `auth.yaml:4: unknown key "prefix" in a grant: did you mean prefixes?`},
		{with("limits: {streams: 0}"), "auth.yaml:4: streams is not a number from 1 to 2147483647: write one, or remove the key for no limit"},
		{with("limits: {stream: 1}"), `auth.yaml:4: unknown key "stream" in limits: did you mean streams?`},
	} {
		c.check(t)
	}
}

func TestMistakesInJWTsAreNamed(t *testing.T) {
	jwt := func(keys string) string { return "jwt: {issuer: i, audience: a, " + keys + "}\n" }
	for _, c := range []mistake{
		{"jwt: {issuer: i}", "auth.yaml:1: jwt needs issuer and audience: without them JWTs made for other services would be accepted"},
		{"jwt: {issuer: i, audience: a}", "auth.yaml:1: jwt needs either key-file or jwks-url: write one of the two"},
		{jwt("key-file: k, jwks-url: https://h/"), "auth.yaml:1: jwt needs either key-file or jwks-url"},
		{jwt("key-file: k, ca-file: c"), "auth.yaml:1: jwt has a ca-file, which is for jwks-url: remove it"},
		{jwt("jwks-url: http://h/"), `auth.yaml:1: jwks-url "http://h/" could be answered by another host on the way: write an https URL`},
		{jwt("jwks-url: https://u:p@h/"), `auth.yaml:1: jwks-url`},
		{jwt("key-file: k, algorithms: [none]"), `auth.yaml:1: the algorithm "none" is not accepted: write some of RS256,`},
		{jwt("key-file: k, algorithms: [HS256]"), `auth.yaml:1: the algorithm "HS256" is not accepted`},
	} {
		c.check(t)
	}
}

// mistake is a file that is rejected, and a part of the error.
type mistake struct{ file, want string }

func (c mistake) check(t *testing.T) {
	t.Helper()
	_, err := Parse("auth.yaml", []byte(c.file))
	if err == nil || !strings.Contains(err.Error(), c.want) {
		t.Errorf("%s\n got %v\nwant %s", c.file, err, c.want)
	} else if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
}

// TestErrorsShowNoToken parses a file with a token in the clear.
func TestErrorsShowNoToken(t *testing.T) {
	text := token.New()
	for _, file := range []string{
		"identities: [{name: a, tokens: [" + text + "]}]",
		"identities: [{name: a, tokens: [{hash: " + text + "}]}]",
		"identities: [{name: a, tokens: [sha256:" + text + "]}]",
	} {
		if _, err := Parse("f", []byte(file)); err == nil || strings.Contains(err.Error(), text[13:40]) {
			t.Errorf("%v", err)
		}
	}
}

func TestLocalKeyServersMaySpeakClear(t *testing.T) {
	for _, url := range []string{"http://127.0.0.1:80/k", "http://[::1]/k", "http://localhost:1/k", "https://h/k"} {
		if _, err := Parse("f", fmt.Appendf(nil, "jwt: {issuer: i, audience: a, jwks-url: '%s'}", url)); err != nil {
			t.Error(err)
		}
	}
}

func TestParseGrants(t *testing.T) {
	got, err := ParseGrants([]byte(`[{"role":"read","databases":["d"],"prefixes":["eu/"],"prefixes-hex":["ff"]},{"role":"admin"}]`))
	want := []auth.Grant{{Role: auth.Read, Databases: []string{"d"}, Prefixes: [][]byte{[]byte("eu/"), {0xff}}}, {Role: auth.Admin}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, wrong := range []string{``, `{}`, `"read"`, `[{"role":"node"}]`, `[{"role":"read","prefix":["a"]}]`, `[{"role":"read","prefixes":[]}]`,
		`[{"role":"read","databases":[]}]`, `[{"role":"read","databases":null}]`, `[{"role":"read","prefixes":null}]`,
		`[{"role":"read","databases":["d"],"databases":null}]`, `[{"role":"read","prefixes-hex":null}]`, `[{"role":"read","prefixes-base64":null}]`, `[{"role":"read","prefixes":[""]}]`, `[{"role":"read"}] []`, `[{}]`} {
		if g, err := ParseGrants([]byte(wrong)); err == nil {
			t.Errorf("%s is read as %+v", wrong, g)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("identities: &x [*x]"))
	f.Add([]byte("identities: [{name: a, tokens: [" + hashA + "], grants: [{role: read, prefixes-hex: [00]}]}]"))
	f.Add([]byte("jwt: {issuer: i, audience: a, key-file: k}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("f", data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		names := make(map[string]bool)
		for _, id := range p.Identities {
			if names[id.Name] || auth.CheckName(id.Name) != nil || len(id.Tokens) > 2 {
				t.Errorf("%+v", id)
			}
			names[id.Name] = true
			for _, g := range id.Grants {
				if err := g.Check(); err != nil {
					t.Errorf("%+v: %v", g, err)
				}
			}
		}
	})
}

func FuzzParseGrants(f *testing.F) {
	f.Add([]byte(`[{"role":"read","databases":["d"],"prefixes":["eu/"],"prefixes-hex":["ff"]},{"role":"admin"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		grants, err := ParseGrants(data)
		for _, g := range grants {
			if err := g.Check(); err != nil {
				t.Errorf("%+v: %v", g, err)
			}
		}
		if err != nil && grants != nil {
			t.Error("grants with an error")
		}
	})
}

// TestDocumentedFileIsValid reads the example of docs/AUTH-FILE.md, and looks there for every
// key.
func TestDocumentedFileIsValid(t *testing.T) {
	document, err := os.ReadFile("../../../docs/AUTH-FILE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(document), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	p, err := Parse("docs/AUTH-FILE.md", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Identities) != 3 || p.JWT == nil {
		t.Errorf("%+v", p)
	}
	for _, key := range []string{"name", "tokens", "certificates", "jwt-names", "grants", "limits", "role", "databases", "prefixes", "prefixes-hex", "prefixes-base64",
		"issuer", "audience", "key-file", "jwks-url", "ca-file", "name-claim", "grants-claim", "algorithms", "not-after"} {
		if !strings.Contains(string(document), "`"+key+"`") {
			t.Errorf("the document does not describe %s", key)
		}
	}
}
