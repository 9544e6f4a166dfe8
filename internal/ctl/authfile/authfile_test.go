package authfile

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/policy"
	"github.com/dkvdb/dkv/internal/auth/token"
)

const kept = `# of the platform team
identities:

  - name: web # the shop
    certificates: [web.example]
    grants: [{role: read, prefixes-hex: ["ff00"]}]
  # tokens of batch jobs
  - name: jobs
    tokens: [sha256:aaaaaaaa:0000000000000000000000000000000000000000000000000000000000000001]
    grants:
      - role: write
    limits: {streams: 3}
jwt: {issuer: i, audience: a, key-file: k}
`

func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(name, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return name
}

// change opens a file, changes it and saves it.
func change(t *testing.T, name string, with func(*File) error) error {
	t.Helper()
	f, err := Open(name, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := with(f); err != nil {
		return err
	}
	return f.Save()
}

func parse(t *testing.T, name string) *policy.Policy {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(name, raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "auth.yaml")
	if _, err := Open(name, false); !os.IsNotExist(err) {
		t.Error(err)
	}
	text := token.New()
	grants := []auth.Grant{{Role: auth.Read, Databases: []string{"orders", "yes"}, Prefixes: [][]byte{[]byte("eu/"), {0xff, 0}}}, {Role: auth.Admin}}
	err := change(t, name, func(f *File) error { return f.Add("me", grants, Token{Text: text}) })
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, name).Identities
	if len(got) != 1 || got[0].Name != "me" || !reflect.DeepEqual(got[0].Grants, grants) || got[0].Tokens[0].Digest != token.Sum(text) {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != newMode {
		t.Errorf("%v, %v", info, err)
	}
}

// What is not changed stays: other identities, keys that are not known here, comments, and
// the mode of the file.
func TestTheRestStays(t *testing.T) {
	name := write(t, kept)
	before := parse(t, name)
	text := token.New()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	if err := change(t, name, func(f *File) error { return f.Add("web", nil, Token{Text: text, NotAfter: until}) }); err != nil {
		t.Fatal(err)
	}
	after := parse(t, name)
	added := after.Identities[0].Tokens
	if len(added) != 1 || added[0].Digest != token.Sum(text) || !added[0].NotAfter.Equal(until) {
		t.Errorf("tokens are %+v", added)
	}
	after.Identities[0].Tokens = nil
	if !reflect.DeepEqual(after, before) {
		t.Errorf("\n got %+v\nwant %+v", after, before)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, comment := range []string{"# of the platform team", "# the shop", "# tokens of batch jobs"} {
		if !strings.Contains(string(raw), comment) {
			t.Errorf("%q is lost:\n%s", comment, raw)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
}

// A link to a file that nodes share stays one, and the lock is that of the file's folder.
func TestLinkedFile(t *testing.T) {
	name, link := write(t, kept), filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	err := change(t, link, func(f *File) error {
		if _, err := Open(name, false); err == nil {
			t.Error("another one may change the file as well")
		}
		_, err := f.Revoke("jobs")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(t, name).Identities[1].Tokens; len(got) != 0 {
		t.Errorf("the file still has %v", got)
	}
}

func TestTwoTokensOfAName(t *testing.T) {
	name := write(t, kept)
	texts := []string{token.New(), token.New()}
	add := func(text string) error {
		return change(t, name, func(f *File) error { return f.Add("jobs", nil, Token{Text: text}) })
	}
	if err := add(texts[0]); err != nil {
		t.Fatal(err)
	}
	if err := add(texts[1]); err == nil || !strings.Contains(err.Error(), "two tokens already, aaaaaaaa and") {
		t.Fatal(err)
	}
	var ids []string
	revoke := func(which string) error {
		return change(t, name, func(f *File) (err error) { ids, err = f.Revoke(which); return err })
	}
	if err := revoke("aaaaaaaa"); err != nil || len(ids) != 1 {
		t.Fatal(ids, err)
	}
	if err := add(texts[1]); err != nil {
		t.Fatal(err)
	}
	if left := parse(t, name).Identities[1].Tokens; len(left) != 2 || left[0].Digest != token.Sum(texts[0]) || left[1].Digest != token.Sum(texts[1]) {
		t.Errorf("%+v", left)
	}
	if err := revoke("jobs"); err != nil || len(ids) != 2 {
		t.Fatal(ids, err)
	}
	for which, want := range map[string]string{"jobs": "has no tokens", "none": "neither a token nor a name"} {
		if err := revoke(which); err == nil || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
	if err := add(texts[0]); err != nil {
		t.Error(err)
	}
}

func TestEndedTokensMakeRoom(t *testing.T) {
	name := write(t, kept)
	for range 3 {
		text := token.New()
		err := change(t, name, func(f *File) error {
			return f.Add("jobs", nil, Token{Text: text, NotAfter: time.Now().Add(-time.Minute)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if left := parse(t, name).Identities[1].Tokens; len(left) != 2 || left[0].ID != "aaaaaaaa" {
		t.Errorf("%+v", left)
	}
}

func TestChangesThatAreRejected(t *testing.T) {
	name := write(t, kept)
	read := []auth.Grant{{Role: auth.Read}}
	for what, c := range map[string]struct {
		name   string
		grants []auth.Grant
		want   string
	}{
		"no rights":         {"new", nil, "-role"},
		"a name with space": {"a b", read, "character"},
		"anonymous":         {"anonymous", read, "left as it was"},
		"other grants":      {"web", read, "keeps its grants"},
	} {
		err := change(t, name, func(f *File) error { return f.Add(c.name, c.grants, Token{Text: token.New()}) })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	if raw, err := os.ReadFile(name); err != nil || string(raw) != kept {
		t.Errorf("the file has changed: %v\n%s", err, raw)
	}
	broken := write(t, "identities: {")
	if _, err := Open(broken, true); err == nil || !strings.Contains(err.Error(), broken) {
		t.Error(err)
	}
	f, err := Open(name, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Open(name, false); err == nil {
		t.Error("two changes at the same time")
	}
}

// A file with JWTs alone gets a list of identities, also one in flow style.
func TestOtherShapes(t *testing.T) {
	for _, content := range []string{"jwt: {issuer: i, audience: a, key-file: k}\n", "{identities: [], jwt: {issuer: i, audience: a, key-file: k}}\n"} {
		name := write(t, content)
		err := change(t, name, func(f *File) error { return f.Add("1", []auth.Grant{{Role: auth.Read}}, Token{Text: token.New()}) })
		if err != nil {
			t.Fatalf("%s: %v", content, err)
		}
		if got := parse(t, name); len(got.Identities) != 1 || got.Identities[0].Name != "1" || got.JWT == nil {
			t.Errorf("%s: %+v", content, got)
		}
	}
}
