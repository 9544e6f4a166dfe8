package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rootWith returns a root-folder that holds the data of nodes, and what it
// recorded; "" records nothing.
func rootWith(t *testing.T, recorded string, nodes ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range nodes {
		if err := os.MkdirAll(filepath.Join(root, name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name, dataMarker), []byte("{}"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if recorded != "" {
		if err := os.WriteFile(filepath.Join(root, NodeNameFile), []byte(recorded), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// A host that gets another name, as a container does that is created again, finds
// the data it had under its old one.
func TestDerivedNodeNameOutlivesTheHostName(t *testing.T) {
	tests := []struct {
		about, recorded string
		nodes           []string
		want, notice    string
		err             string
	}{
		{about: "an empty root-folder", want: "host"},
		{about: "its own data", nodes: []string{"host"}, want: "host"},
		{about: "its own data, recorded", recorded: "host\n", nodes: []string{"host", "other"}, want: "host"},
		{about: "a new host name", recorded: "old\n", nodes: []string{"old"}, want: "old", notice: `this host is now called "host"`},
		{about: "recorded, and the folder is not there yet", recorded: "old", want: "old", notice: "as kept in"},
		{about: "data of an earlier release, which recorded nothing", nodes: []string{"old"}, want: "old", notice: "whose data is the only one"},
		{about: "two candidates", nodes: []string{"a", "b"}, err: `holds the data of the nodes "a" and "b", and it is not known which of them this host ("host") is: set --node-name`},
		{about: "recorded, and data of its own", recorded: "old", nodes: []string{"host", "old"}, err: `holds the data of the nodes "old" and "host"`},
		{about: "a damaged record", recorded: "../x", err: "node-name: "},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			host := testHost()
			host.Name = func() (string, error) { return "host", nil }
			host.Nodes = knownNodes
			root := rootWith(t, tt.recorded, tt.nodes...)
			inv, err := LoadOn(host, []string{"--root-folder", root}, nil)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c := inv.Config
			if c.Node.Name != tt.want || c.Storage.DBFolder != filepath.Join(root, tt.want) || !c.KeepsName() {
				t.Errorf("node-name %q, db-folder %q, keeps its name: %t", c.Node.Name, c.Storage.DBFolder, c.KeepsName())
			}
			if notices := strings.Join(c.Notices(), "\n"); (tt.notice == "") != (notices == "") || !strings.Contains(notices, tt.notice) {
				t.Errorf("notices %q, want %q", notices, tt.notice)
			}
		})
	}
}

// A folder or a name that the user sets is used.
func TestAGivenNameOrFolderIsNotLookedFor(t *testing.T) {
	host := testHost()
	host.Nodes = knownNodes
	root := rootWith(t, "", "a", "b")
	for _, args := range [][]string{
		{"--root-folder", root, "--node-name", "c"},
		{"--root-folder", root, "--db-folder", filepath.Join(root, "x")},
		{"--root-folder", root, "--diskless", "--db-engine", "badger"},
	} {
		inv, err := LoadOn(host, args, nil)
		if err != nil {
			t.Errorf("%q: %v", args, err)
		} else if inv.Config.KeepsName() {
			t.Errorf("%q: the name would be recorded", args)
		}
	}
}

func TestPrintShowsTheReserveInEffect(t *testing.T) {
	host := testHost()
	host.FileSystem = func(string) Size { return 100 * GiB }
	inv, err := LoadOn(host, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := inv.Config.Print(&out); err != nil {
		t.Fatal(err)
	}
	if want := "disk-reserve: 1GiB # derived: 5 % of the file system, at most 1GiB"; !strings.Contains(out.String(), want) {
		t.Errorf("want %q in\n%s", want, out.String())
	}
}
