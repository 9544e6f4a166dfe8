package app

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestEveryCallOfEachRoleHasARow walks what the servers of each role have registered: a
// method or path without a row could be called by no one, and a row that no role serves
// says nothing.
func TestEveryCallOfEachRoleHasARow(t *testing.T) {
	served := make(map[*access.Row]bool)
	for name, args := range map[string][]string{
		"standalone": nil,
		"registry":   {"--role", "discovery"},
		"slave":      {"--role", "slave", "--disable-discovery-client", "--repl-master-addr", testkit.Address(t)},
		"master":     {"--role", "master", "--disable-discovery-client", "--nexus-node-url", "http://" + testkit.Address(t)},
	} {
		a := opened(t, args...)
		methods, paths := a.grpc.Methods(), a.http.Paths()
		if len(methods) < 20 || len(paths) < 20 {
			t.Errorf("%s: only %d methods and %d paths", name, len(methods), len(paths))
		}
		for _, m := range methods {
			served[access.Method(m)] = true
			if access.Method(m) == nil {
				t.Errorf("%s: method %s has no row in internal/access", name, m)
			}
		}
		for _, p := range paths {
			served[access.Path(p)] = true
			if access.Path(p) == nil {
				t.Errorf("%s: path %s has no row in internal/access", name, p)
			}
		}
	}
	for _, r := range slices.Concat(access.Methods(), access.Paths()) {
		if !served[access.Method(r.Call)] && !served[access.Path(r.Call)] {
			t.Errorf("the row of %s is about nothing that a role serves", r.Call)
		}
	}
}

// opened is a node that is open and serves nothing yet.
func opened(t *testing.T, args ...string) *app {
	t.Helper()
	inv, err := config.Load(append([]string{
		"--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0", "--db-folder", filepath.Join(t.TempDir(), "db"), "--pprof",
	}, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newApp(t.Context(), inv.Config, promotion.Part{}, slog.New(slog.DiscardHandler), Process{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.node.Close(); err != nil {
			t.Error(err)
		}
	})
	if !a.opened.Load() {
		if err := a.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return a
}
