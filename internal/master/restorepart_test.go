package master

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A restore that has replaced some vBuckets and fails for the next has had its effect:
// what was written to the first since would be lost if it was sent again for harmless.
func TestRestoreOfAPartIsNotWithoutEffect(t *testing.T) {
	const vBuckets = 2
	var all []route.VBucket
	for i := range vBuckets {
		name := fmt.Sprint(i)
		l, err := local.Open(local.Options{Options: state.Options{
			VBucket: name, VBuckets: vBuckets,
			Open:     func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
			OpenKind: func(_, dir string) (storage.Engine, error) { return memory.Open(memory.Options{Dir: dir}) },
			Log:      slog.New(slog.DiscardHandler),
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		testkit.Run(t, l.Run)
		all = append(all, route.VBucket{Name: name, Replica: l})
	}
	put := func(value string) {
		t.Helper()
		for _, v := range all {
			if _, err := v.Propose(t.Context(), &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: []byte("k"), Value: []byte(value)}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	root := filepath.Join(t.TempDir(), "backups")
	s := NewBackup(route.NewKeyspace(all...), root, nil)
	put("old")
	if _, err := s.Backup(context.Background(), &serverpb.BackupRequest{BackupPath: "b"}); err != nil {
		t.Fatal(err)
	}
	put("new")
	damaged := filepath.Join(root, "b", all[1].Name, "data", "checkpoint.mem")
	raw, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(damaged, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Restore(context.Background(), &serverpb.RestoreRequest{RestorePath: "b"})
	for i, want := range []string{"old", "new"} {
		if p, _, _, err := all[i].Get(t.Context(), []byte("k"), kv.ReadOptions{}); err != nil || string(p.Value) != want {
			t.Errorf("vBucket %d holds %q, %v", i, p.Value, err)
		}
	}
	if kv.KindOf(err) != kv.Corrupt || kv.OutcomeOf(err) != kv.Unknown || !strings.Contains(err.Error(), "1 of 2 vBuckets") {
		t.Errorf("after a restore of one vBucket of two the error has kind %d (%v): %v", kv.KindOf(err), kv.OutcomeOf(err), err)
	}
}
