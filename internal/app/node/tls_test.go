package node

import (
	"os"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/telemetry"
	kit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// TestCertificatesAreOpenedAndReloaded starts a node with the key of another certificate, and
// replaces both files while it runs.
func TestCertificatesAreOpenedAndReloaded(t *testing.T) {
	authority := kit.New(t)
	own, next := authority.Node(t), authority.Node(t)
	cfg := config.Default()
	cfg.Network.ListenAddr, cfg.Network.HTTPListenAddr = "127.0.0.1:0", "127.0.0.1:0"
	s := &cfg.Security
	s.TLSMode, s.TLSCertFile, s.TLSKeyFile, s.TLSCAFile = config.TLSRequired, own.CertFile, next.KeyFile, authority.File
	log := telemetry.NewLogger(telemetry.LogOptions{Writer: new(strings.Builder)})
	_, err := New(t.Context(), cfg, log)
	for _, err := range []error{err, CheckStart(cfg)} {
		if err == nil || !strings.HasPrefix(err.Error(), "tls-key-file "+next.KeyFile+" does not belong to tls-cert-file") {
			t.Error(err)
		}
	}
	s.TLSKeyFile = own.KeyFile
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
	if n.Certs.Mode() != certs.Required || len(n.Collectors) != 1 || len(n.Beside()) != 1 {
		t.Errorf("mode %s, %d collectors, %d functions run beside the node", n.Certs.Mode(), len(n.Collectors), len(n.Beside()))
	}
	before := n.Certs.Expiries()[0].At
	for from, to := range map[string]string{next.CertFile: own.CertFile, next.KeyFile: own.KeyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	n.Reload()
	if after := n.Certs.Expiries()[0].At; after.Before(before) || n.Certs.Reload() != nil {
		t.Errorf("expires %v, and %v before", after, before)
	}
}
