package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// TestAuthFileIsOpenedAndReloaded starts a node with a file of identities that is wrong at
// first, and changes it while the node runs.
func TestAuthFileIsOpenedAndReloaded(t *testing.T) {
	cfg := config.Default()
	cfg.Network.ListenAddr, cfg.Network.HTTPListenAddr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Security.AuthFile = filepath.Join(t.TempDir(), "auth.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(cfg.Security.AuthFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := telemetry.NewLogger(telemetry.LogOptions{Writer: new(strings.Builder)})
	write("identities: [{name: a, grants: [{role: root}]}]")
	_, err := New(t.Context(), cfg, log)
	for _, err := range []error{err, CheckStart(cfg)} {
		if err == nil || !strings.HasPrefix(err.Error(), "auth-file: ") || !strings.Contains(err.Error(), `auth.yaml:1: a grant has the unknown role "root"`) {
			t.Error(err)
		}
	}
	write("identities: [{name: a}]")
	if err := CheckStart(cfg); err != nil {
		t.Error(err)
	}
	n, err := New(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if len(n.Collectors) != 1 || len(n.Beside()) != 1 {
		t.Errorf("%d collectors, and %d functions run beside the node", len(n.Collectors), len(n.Beside()))
	}
	if _, err := n.Auth.Vouched("a"); err != nil {
		t.Error(err)
	}
	write("identities: []")
	n.Reload()
	if n.AuthFailure() == nil {
		t.Error("a file that cannot be used is no failure")
	}
	write("identities: [{name: b}]")
	n.Reload()
	if _, err := n.Auth.Vouched("b"); err != nil || n.AuthFailure() != nil {
		t.Error(err, n.AuthFailure())
	}
}
