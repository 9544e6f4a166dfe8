package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestRecover is a command of its own, which only the first argument is, and has the options of the
// node; what is typed again has no token.
func TestRecover(t *testing.T) {
	for _, args := range [][]string{
		{"recover", "--role", "master", "--nexus-node-url=http://a:1"},
		{"recover", "--confirm", "0123", "--role", "master", "--nexus-node-url=http://a:1"},
		{"recover", "--role", "master", "-confirm=0123", "--nexus-node-url=http://a:1"},
	} {
		inv, err := LoadOn(testHost(), args, nil)
		if err != nil {
			t.Fatal(err)
		}
		token := ""
		if strings.Contains(strings.Join(args, " "), "0123") {
			token = "0123"
		}
		if inv.Action != Recover || inv.Confirm != token || inv.Config.Role != RoleMaster {
			t.Errorf("%q: %v with %q", args, inv.Action, inv.Confirm)
		}
		if got := inv.Typed(); !slices.Equal(got, []string{"--role", "master", "--nexus-node-url=http://a:1"}) {
			t.Errorf("%q is typed again as %q", args, got)
		}
	}
	for _, args := range [][]string{{"--confirm", "0123"}, {"--role", "none", "recover"}, {"recover", "recover"}, {"recover", "--confirm"}} {
		var usage *UsageError
		if _, err := LoadOn(testHost(), args, nil); !errors.As(err, &usage) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if inv, err := LoadOn(testHost(), []string{"recover", "--help"}, nil); err != nil || inv.Action != ShowHelp {
		t.Errorf("its help: %v, %v", inv, err)
	}
}

// TestRestoreFrom is an option of dkvsrv that has it not serve, and no key.
func TestRestoreFrom(t *testing.T) {
	inv, err := LoadOn(testHost(), []string{"--role", "none", "--restore-from", "/b/one"}, nil)
	if err != nil || inv.Action != RestoreFrom || inv.Restore.From != "/b/one" {
		t.Fatal(inv, err)
	}
	for _, args := range [][]string{{"--restore-from"}, {"--restore-from="}, {"recover", "--restore-from", "/b/one"}, {"--restore-form", "/b/one"}} {
		var usage *UsageError
		if _, err := LoadOn(testHost(), args, nil); !errors.As(err, &usage) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, err := LoadOn(testHost(), []string{"--restore-form", "/b/one"}, nil); !strings.Contains(err.Error(), "did you mean --restore-from?") {
		t.Error(err)
	}
	if inv, err := LoadOn(testHost(), nil, []string{"DKV_RESTORE_FROM=/b/one"}); err != nil || inv.Action != Run || inv.Restore.From != "" {
		t.Errorf("from the environment: %v, %v", inv, err)
	}
}
