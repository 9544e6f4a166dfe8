package node

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
)

// What keeps a log from being written at the start is said by --check-config as well.
func TestCheckOfLogs(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"--audit-log " + filepath.Join(dir, "absent", "audit.log"):   "audit-log: " + filepath.Join(dir, "absent") + " is not a folder",
		"--access-log " + filepath.Join(dir, "absent", "access.log"): "access-log: ",
		"--audit-log " + dir: "audit-log: " + dir + " is a folder",
		"--audit-log " + filepath.Join(dir, "audit.log") + " --access-log log": "",
	} {
		inv, err := config.Load(append(strings.Fields(args), "--db-folder", filepath.Join(dir, "db")), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckStart(inv.Config); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestReachable(t *testing.T) {
	addr := func(text string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct{ bound, advertised, want string }{
		{"0.0.0.0:8081", "10.0.0.7:8080", "10.0.0.7:8081"},
		{"[::]:8081", "node1:8080", "node1:8081"},
		{"127.0.0.1:8081", "10.0.0.7:8080", "127.0.0.1:8081"},
	} {
		if got := reachable(addr(c.bound), c.advertised); got != c.want {
			t.Errorf("%s, advertised as %s, is reached at %s, not %s", c.bound, c.advertised, got, c.want)
		}
	}
}
