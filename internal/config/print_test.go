package config

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrintLoadsAgain(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"--role", "slave", "--vbucket", "7", "--dc-id", "true", "--database", "null", "--node-name", "a: b #c", "--repl-poll-interval", "5"},
		{"--nexus-cluster-url", "http://a:1,http://b:1", "--db-folder", " ", "--max-value-size", "1000000", "--nexus-join"},
	} {
		c := load(t, nil, args...)
		var out bytes.Buffer
		if err := c.Print(&out); err != nil {
			t.Fatal(err)
		}
		again := load(t, nil, "-c", write(t, out.String()))
		for k := range newTable().all {
			if got, want := k.field(again).text(), k.field(c).text(); got != want {
				t.Errorf("%q: %s is printed and loaded as %q, was %q", args, k.name, got, want)
			}
		}
	}
}

func TestPrintNamesSources(t *testing.T) {
	file := write(t, "log-level: warn\n")
	var out bytes.Buffer
	if err := load(t, []string{"DKV_VBUCKET=v7"}, "-c", file, "--pprof").Print(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for _, want := range []string{
		"log-level: warn # " + file + ":1",
		"vbucket: v7 # DKV_VBUCKET",
		"pprof: true # --pprof",
		"role: none # default",
		"node-name: node1 # derived",
		"disk-reserve: 0 # derived: 5 % of the file system, at most 1GiB",
		"    status-ttl: 5m # default",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%s", want, out.String())
		}
	}
}

func TestPrintHidesSecrets(t *testing.T) {
	c := complete(t)
	c.Security.TLSKeyFile, c.Security.TLSCertFile = "s3cr3t-key", "cert.pem"
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "s3cr3t") {
		t.Errorf("a secret is printed:\n%s", out.String())
	}
	if !strings.Contains(out.String(), `tls-key-file: "" # default, hidden`) || !strings.Contains(out.String(), "cert.pem") {
		t.Errorf("what is hidden is not said, or too much is:\n%s", out.String())
	}
}

func TestRender(t *testing.T) {
	file := write(t, "repl-mode: stream\n")
	tests := []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{"--version"}, "dkvsrv v1.2.3\n"},
		{[]string{"--check-config"}, "the configuration is valid (no file, built-in defaults)\n"},
		{[]string{"--check-config", "-c", file}, "the configuration is valid (" + file + ")\n" +
			"note: repl-mode (" + file + ":1) has no effect: this node has role none, and the key is for role slave\n"},
	}
	for _, tt := range tests {
		inv, err := LoadOn(testHost(), tt.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := inv.Render(&out, "v1.2.3"); err != nil || out.String() != tt.want {
			t.Errorf("%q: %v\n got %q\nwant %q", tt.args, err, out.String(), tt.want)
		}
	}
}

var errFull = errors.New("no space left")

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }

func TestRenderReportsAFailingWriter(t *testing.T) {
	for _, arg := range []string{"--help", "--version", "--print-config", "--check-config"} {
		inv, err := LoadOn(testHost(), []string{arg}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := inv.Render(fullWriter{}, "v1"); err == nil {
			t.Errorf("%s: no error", arg)
		}
	}
}

func TestHelp(t *testing.T) {
	inv, err := LoadOn(testHost(), []string{"--help"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := inv.Render(&out, "v1"); err != nil {
		t.Fatal(err)
	}
	help := out.String()
	lines := strings.Split(help, "\n")
	for i, line := range lines {
		if utf8.RuneCountInString(line) > 100 || strings.TrimRight(line, " ") != line {
			t.Errorf("line %d is too long or ends in spaces: %q", i+1, line)
		}
	}
	flat := strings.Join(strings.Fields(help), " ")
	table := newTable()
	for _, g := range table.groups {
		if !slices.Contains(lines, g.title) {
			t.Errorf("group %q is not listed", g.title)
		}
	}
	for k := range table.all {
		if !strings.Contains(flat, " --"+k.name+" ") || !strings.Contains(flat, k.doc+" "+k.defaultText()) {
			t.Errorf("%s is not described", k.name)
		}
	}
	for _, want := range []string{"-c, --config FILE", "--check-config", "(default 5s)", "--role none|master|slave|discovery", "(derived: db-folder/backups)"} {
		if !strings.Contains(flat, want) {
			t.Errorf("no %q", want)
		}
	}
}

// TestSecretsAreNotEchoed: a secret that stands in place of the name of its file, from any
// source, is rejected, and is not in the error.
func TestSecretsAreNotEchoed(t *testing.T) {
	for form, secret := range map[string]string{
		"token":  "dkv_abcdefgh_" + strings.Repeat("s3cr3t7x", 8),
		"hex":    strings.Repeat("5ec7e7", 11)[:64],
		"base64": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYzA=",
		"PEM":    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIs3cr3t\n-----END PRIVATE KEY-----\n",
	} {
		for k := range newTable().all {
			if _, ok := k.field(new(Config)).(secretFileValue); !ok {
				continue
			}
			file := write(t, k.name+": \""+strings.ReplaceAll(secret, "\n", "\\n")+"\"\n")
			for source, try := range map[string]func() error{
				"flag": func() error { _, err := LoadOn(testHost(), []string{"--" + k.name, secret}, nil); return err },
				"env":  func() error { _, err := LoadOn(testHost(), nil, []string{k.env() + "=" + secret}); return err },
				"file": func() error { _, err := LoadOn(testHost(), []string{"-c", file}, nil); return err },
			} {
				err := try()
				if err == nil || !strings.Contains(err.Error(), k.name) && !strings.Contains(err.Error(), k.env()) {
					t.Errorf("%s as %s, from the %s: %v", form, k.name, source, err)
				}
				for _, part := range strings.Fields(secret) {
					if err != nil && len(part) > 12 && strings.Contains(err.Error(), part) {
						t.Errorf("%s as %s, from the %s: the error contains it: %v", form, k.name, source, err)
					}
				}
			}
		}
	}
}
