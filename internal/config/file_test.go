package config

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write dkvsrv.yaml from the key table")

// shippedFile is dkvsrv.yaml in the root of the tree.
const shippedFile = "../../dkvsrv.yaml"

const shippedHead = `# Configuration of dkvsrv: every key, with its default.
#
# Each key is also a flag (--listen-addr) and an environment variable (DKV_LISTEN_ADDR). A flag takes
# precedence over the environment, the environment over this file, and this file over the default.
# Durations are written 100ms, 5s, 24h, or as a number of seconds; sizes are written in bytes, or as
# 512MiB or 1GB. A key that is commented out has a default that is derived when the node starts, or
# one that two nodes on one host cannot share. To check this file and to see the values in effect:
#
#   dkvsrv --config dkvsrv.yaml --check-config
#   dkvsrv --config dkvsrv.yaml --print-config
`

// shipped renders the file as the key table would have it.
func shipped() string {
	var b strings.Builder
	b.WriteString(shippedHead)
	section := ""
	for _, g := range newTable().groups {
		fmt.Fprintf(&b, "\n# --- %s ---\n", g.title)
		section = ""
		for _, k := range g.keys {
			writeShipped(&b, &k, &section)
		}
	}
	return b.String()
}

// writeShipped writes one key, opening the sections it stands in; section is
// the one that is open.
func writeShipped(b *strings.Builder, k *key, section *string) {
	parts := strings.Split(k.name, ".")
	parents, name := parts[:len(parts)-1], parts[len(parts)-1]
	open := strings.Split(*section, ".")
	if *section == "" {
		open = nil
	}
	for i, parent := range parents {
		if i < len(open) && open[i] == parent {
			continue
		}
		fmt.Fprintf(b, "%s%s:\n", strings.Repeat("  ", i), parent)
		open = nil
	}
	*section = strings.Join(parents, ".")
	indent := strings.Repeat("  ", len(parents))
	mark, text := "", k.def
	if k.derived != "" || k.has(clashes) {
		mark = "#"
	}
	if text == "" {
		text = `""`
	}
	doc := k.doc
	if k.derived != "" {
		doc += " Derived: " + k.derived + "."
		text = derivedExample(k)
	}
	for _, line := range wrap(doc, helpWidth-len(indent)-2) {
		fmt.Fprintf(b, "%s# %s\n", indent, line)
	}
	fmt.Fprintf(b, "%s%s%s: %s\n", indent, mark, name, text)
}

// derivedExample is what a commented line of a derived key shows.
func derivedExample(k *key) string {
	c := Default()
	if err := c.Complete(testHost()); err != nil {
		panic(err)
	}
	if k.name == "disk-reserve" {
		return c.Storage.ReserveOf(TiB).String()
	}
	return k.field(c).text()
}

// The file that ships is what the key table says, so that a key, its default
// and its description are written down once. After a change of the table:
//
//	go test ./internal/config -run TestShippedFile -update
func TestShippedFileIsTheTable(t *testing.T) {
	if *update {
		if err := os.WriteFile(shippedFile, []byte(shipped()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(shippedFile)
	if err != nil {
		t.Fatal(err)
	}
	want, got := strings.Split(shipped(), "\n"), strings.Split(string(data), "\n")
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Fatalf("line %d differs from the key table; run this test with -update.\n got: %q\nwant: %q",
				i+1, lineAt(got, i), lineAt(want, i))
		}
	}
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end of file)"
}

// The other direction, by the program's own loader: what is set in the file is
// the default, and uncommenting the rest names every key there is.
func TestShippedFileLoads(t *testing.T) {
	inv, err := LoadOn(testHost(), []string{"--config", shippedFile}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, defaults := inv.Config, complete(t)
	for k := range newTable().all {
		if got, want := k.field(c).text(), k.field(defaults).text(); got != want {
			t.Errorf("%s is %q in the file, the default is %q", k.name, got, want)
		}
		if wantSet := k.derived == "" && !k.has(clashes); c.IsSet(k.name) != wantSet {
			t.Errorf("IsSet(%q) = %t, want %t", k.name, c.IsSet(k.name), wantSet)
		}
	}
	if notices := c.Notices(); len(notices) != 0 {
		t.Errorf("the shipped file gives cause for notices: %q", notices)
	}
	data, err := os.ReadFile(shippedFile)
	if err != nil {
		t.Fatal(err)
	}
	every := regexp.MustCompile(`(?m)^(\s*)#([a-z])`).ReplaceAll(data, []byte("$1$2"))
	settings, err := parseYAML(newTable(), "dkvsrv.yaml", every)
	if err != nil {
		t.Fatal(err)
	}
	inFile := make(map[string]bool)
	for _, s := range settings {
		inFile[s.key.name] = true
	}
	for k := range newTable().all {
		if !inFile[k.name] {
			t.Errorf("%s is not in the file", k.name)
		}
	}
}

// The session of four masters shares the file: nothing that would clash may
// be set in it.
func TestShippedFileSuitsSeveralNodesOnOneHost(t *testing.T) {
	inv, err := LoadOn(testHost(), []string{"--config", shippedFile, "--listen-addr", "127.0.0.1:9081", "--db-folder", "d/n1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"http-listen-addr", "advertise-addr", "root-folder", "node-name", "backup-dir", "nexus-log-dir"} {
		if inv.Config.IsSet(name) {
			t.Errorf("%s is set in the shipped file", name)
		}
	}
	if got := inv.Config.Network.AdvertiseAddr; got != "127.0.0.1:9081" {
		t.Errorf("advertise-addr = %q", got)
	}
}
