package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
)

// TestOnlyASlaveShowsAToken: a master that showed one would not be taken for a node.
func TestOnlyASlaveShowsAToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for role, want := range map[config.Role]bool{config.RoleSlave: true, config.RoleMaster: false} {
		n := &Node{Config: &config.Config{Role: role}, Log: slog.New(slog.DiscardHandler)}
		n.Config.Replication.TokenFile = path
		calls, err := n.Calls()
		if err != nil || (calls.PerRPC != nil) != want {
			t.Errorf("%s: %v, %v", role, calls.PerRPC, err)
		}
	}
	n := &Node{Config: &config.Config{Role: config.RoleSlave}}
	n.Config.Replication.TokenFile = path + "x"
	if _, err := n.Calls(); err == nil || !strings.Contains(err.Error(), "repl-token-file") {
		t.Error(err)
	}
}
