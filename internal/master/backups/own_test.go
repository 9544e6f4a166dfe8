package backups

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// TestRestoreOfAnotherDatabase: it is rejected if the caller asks for that, as dkvctl does, and
// replaces this one if it is forced, or if the caller is an earlier client, which cannot say.
func TestRestoreOfAnotherDatabase(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "theirs")
	r.MustBackup("b1")
	s := New(r.Keyspace, r.Root, nil)
	s.Keeps("orders") // the replica's is db
	ask := func(req *serverpb.RestoreRequest) error {
		r.MustPut("a", "ours")
		req.RestorePath = "b1"
		_, err := s.Restore(t.Context(), req)
		return err
	}
	err := ask(&serverpb.RestoreRequest{Own: true})
	if kv.KindOf(err) != kv.Precondition || kv.OutcomeOf(err) != kv.NotApplied || !strings.Contains(err.Error(), `is of database "db", and the one here is "orders"`) || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("kind %d (%v): %v", kv.KindOf(err), kv.OutcomeOf(err), err)
	}
	r.WantValue("a", "ours")
	for name, req := range map[string]*serverpb.RestoreRequest{"an earlier client": {}, "by force": {Force: true}, "both": {Own: true, Force: true}} {
		if err := ask(req); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.WantValue("a", "theirs")
	}
	s.Keeps("db")
	if err := ask(&serverpb.RestoreRequest{Own: true}); err != nil {
		t.Errorf("its own backup: %v", err)
	}
	r.WantValue("a", "theirs")
}

// TestRestoreOfAMixedBackup: a folder put together from two backups would make a database of two
// times; it takes force, whoever asks.
func TestRestoreOfAMixedBackup(t *testing.T) {
	r := newRestores(t)
	if _, err := r.service().Backup(t.Context(), &serverpb.BackupRequest{BackupPath: "tuesday"}); err != nil {
		t.Fatal(err)
	}
	folder := func(backup string) string { return filepath.Join(r.root, backup, r.all[1].Name) }
	if err := os.RemoveAll(folder("b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder("tuesday"), folder("b")); err != nil {
		t.Fatal(err)
	}
	err := r.restore()
	r.want("new", "new")
	if kv.KindOf(err) != kv.Precondition || kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("kind %d (%v)", kv.KindOf(err), kv.OutcomeOf(err))
	}
	for _, want := range []string{"is mixed from several backups", "part of b-", "of tuesday-", "nothing was changed"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if _, err := r.service().Restore(context.Background(), &serverpb.RestoreRequest{RestorePath: "b", Force: true}); err != nil {
		t.Error(err)
	}
	r.want("old", "new")
}
