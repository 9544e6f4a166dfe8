package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad: whatever stands in the file, on the command line (an argument a
// line) and in the environment (a variable a line), loading ends with a valid
// configuration or with one of our errors in one line.
func FuzzLoad(f *testing.F) {
	f.Add("", "", "")
	f.Add("role: slave\ndiscovery-service:\n  client:\n    push-status-interval: 1.5\n", "--db-folder\nx\n-nexus-join", "DKV_VBUCKET=v")
	f.Add("nexus-cluster-url: [http://a:1, 'http://[::1]:2']\n<<: &a {b: *a}\n", "--max-value-size=1e9GiB\n--=", "DKV_PORT=1")
	f.Add("a: &a [*a]\n", "---\n--", "DKV_ROLE")
	f.Add("\xff\xfe", "-\x00", "DKV_\x00=")
	path := filepath.Join(f.TempDir(), "fuzz.yaml")
	f.Fuzz(func(t *testing.T, file, args, env string) {
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		argv := []string{"-c", path}
		if args != "" {
			argv = append(argv, strings.Split(args, "\n")...)
		}
		inv, err := LoadOn(testHost(), argv, strings.Split(env, "\n"))
		if err != nil {
			if errorKind(err) == -1 || inv != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%T %q with %v", err, err, inv)
			}
			return
		}
		if inv.Config == nil {
			return
		}
		if err := inv.Config.Validate(); err != nil {
			t.Fatalf("loaded, but not valid: %v", err)
		}
		var out bytes.Buffer
		if err := inv.Config.Print(&out); err != nil {
			t.Fatalf("cannot be printed: %v", err)
		}
		if _, err := parseYAML(newTable(), "printed", out.Bytes()); err != nil {
			t.Fatalf("printed in a form that does not load: %v\n%s", err, out.String())
		}
	})
}

// FuzzYAML is the reader of the file alone, which is the part with a grammar.
func FuzzYAML(f *testing.F) {
	f.Add([]byte("role: slave\ndiscovery-service: {client: {push-status-interval: 1.5}}\n"))
	f.Add([]byte("nexus-cluster-url:\n  - a\n  - 'b'\n---\nx"))
	f.Add([]byte("a: &a [*a]\n? {b: c}\n: !!x |\n  d\n"))
	if shipped, err := os.ReadFile(shippedFile); err == nil {
		f.Add(shipped)
	}
	table := newTable()
	f.Fuzz(func(t *testing.T, data []byte) {
		settings, err := parseYAML(table, "f.yaml", data)
		if err != nil && (errorKind(err) == -1 || len(settings) != 0 || strings.Contains(err.Error(), "\n")) {
			t.Fatalf("%T %q with %d settings", err, err, len(settings))
		}
		for _, s := range settings {
			if table.byName[s.key.name] != s.key || s.origin.Line < 1 {
				t.Fatalf("setting %q at %v", s.key.name, s.origin)
			}
		}
	})
}
