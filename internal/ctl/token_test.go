package ctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/auth/policy"
	"github.com/dkvdb/dkv/internal/auth/token"
)

// TestTokensAreShownOnce makes, replaces and revokes tokens as an operator does.
func TestTokensAreShownOnce(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "auth.yaml"), filepath.Join(dir, "web.token")
	run := func(args ...string) outcome {
		t.Helper()
		got := dkvctl(t, "", append(append([]string{"-token"}, args...), "-authFile", file)...)
		if got.code != exitOK || got.stderr != "" {
			t.Fatalf("%v: %+v", args, got)
		}
		return got
	}
	written := run("new", "web", "-role", "read,write", "-prefix", "eu/", "-tokenFile", secret)
	raw, err := os.ReadFile(secret)
	first := strings.TrimSpace(string(raw))
	if err != nil || token.Check(first) != nil || strings.Contains(written.stdout, first) {
		t.Fatalf("%v; the file holds %q; %s", err, raw, written.stdout)
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != tokenMode {
		t.Errorf("%v, %v", info, err)
	}
	second := strings.TrimSpace(run("new", "web", "-days", "30").stdout)
	if err := token.Check(second); err != nil {
		t.Errorf("stdout is not the token alone: %v", err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(file, content)
	if err != nil || len(p.Identities) != 1 || len(p.Identities[0].Tokens) != 2 || len(p.Identities[0].Grants) != 2 {
		t.Fatalf("%v: %s", err, content)
	}
	list := run("list").stdout + run("list", "-o", "json").stdout
	for _, shown := range []string{list, string(content)} {
		if strings.Contains(shown, first) || strings.Contains(shown, second) {
			t.Errorf("a token is shown again: %s", shown)
		}
	}
	for _, want := range []string{"write of keys eu/*", "valid", "until 2", `"name":"web"`} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %q:\n%s", want, list)
		}
	}
	id, _ := token.IDOf(first)
	run("revoke", id)
	if got := run("revoke", second).stdout; !strings.Contains(got, "revoked") || strings.Contains(got, second) {
		t.Error(got)
	}
	if got := run("list").stdout; !strings.Contains(got, "no token") {
		t.Error(got)
	}
}

func TestTokenForAFileElsewhere(t *testing.T) {
	got := dkvctl(t, "", "-token", "new", "web", "-role", "read")
	text, entry, _ := strings.Cut(got.stdout, "\n")
	if got.code != exitOK || token.Check(text) != nil {
		t.Fatalf("%+v", got)
	}
	p, err := policy.Parse("entry", []byte(entry))
	if err != nil || p.Identities[0].Tokens[0].Digest != token.Sum(text) {
		t.Errorf("%v: %s", err, entry)
	}
	got = dkvctl(t, "", "-token", "new", "web", "-role", "read", "-o", "json")
	if got.code != exitOK || !strings.Contains(got.stdout, `"token":"dkv_`) || !strings.Contains(got.stdout, `"entry":"identities:`) {
		t.Errorf("%+v", got)
	}
}

// A file that exists is not overwritten with a token, and the auth-file then stays too.
func TestTokenFileIsNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "auth.yaml"), filepath.Join(dir, "token")
	if err := os.WriteFile(secret, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, dkvctl(t, "", "-token", "new", "web", "-role", "read", "-authFile", file, "-tokenFile", secret), outcome{code: exitFailed, stderr: "exists already"})
	if raw, _ := os.ReadFile(secret); string(raw) != "mine" {
		t.Errorf("it holds %q", raw)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the auth-file was made: %v", err)
	}
	other := filepath.Join(dir, "other")
	expect(t, dkvctl(t, "", "-token", "new", "anonymous", "-role", "read", "-authFile", file, "-tokenFile", other), outcome{code: exitFailed, stderr: "anonymous"})
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Errorf("a token that is not valid was left: %v", err)
	}
}
