package local_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// While a promotion has sealed the log, nothing is written, restored or read as the newest;
// older reads are served, and the end of the seal makes all of it possible again.
func TestSealedNodeAnswersNothingNew(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	r.MustPut("a", "1")
	dir := r.MustBackup()
	propose := func(c *command.Command) error {
		_, err := r.Propose(t.Context(), c)
		return err
	}
	if err := propose(&command.Command{Kind: command.Seal, Expect: []byte("promotion-7")}); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
		if !errors.Is(err, replica.ErrSealed) || !strings.Contains(err.Error(), "promotion-7") || !strings.Contains(err.Error(), "-promote -abandon") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("put", propose(replicatest.Put("a", "2")))
	refused("seal for another promotion", propose(&command.Command{Kind: command.Seal, Expect: []byte("promotion-8")}))
	refused("restore", r.Restore(t.Context(), dir))
	_, _, _, err := r.Get(t.Context(), []byte("a"), kv.ReadOptions{Level: kv.Linearizable})
	refused("linearizable read", err)
	_, _, err = r.View(t.Context(), kv.ReadOptions{Level: kv.Linearizable})
	refused("linearizable view", err)
	if pair, _, _, err := r.Get(t.Context(), []byte("a"), kv.ReadOptions{}); err != nil || string(pair.Value) != "1" {
		t.Errorf("sequential read: %q, %v", pair.Value, err)
	}
	if err := propose(&command.Command{Kind: command.Unseal, Expect: []byte("promotion-7")}); err != nil {
		t.Fatal(err)
	}
	r.MustPut("a", "2")
	r.WantValue("a", "2")
}

// A restored keyspace is waited for by the same nodes as the one before.
func TestRestoreKeepsTheStandbys(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	r.MustPut("a", "1")
	dir := r.MustBackup()
	res, err := r.Propose(t.Context(), &command.Command{Kind: command.SetStandbys, Expect: []byte("set")})
	if err != nil {
		t.Fatal(err)
	}
	r.MustRestore(dir)
	again, err := r.Propose(t.Context(), &command.Command{Kind: command.SetStandbys, Expect: []byte("next"), Delta: int64(res.Index)})
	if err != nil || again.Code != command.OK {
		t.Errorf("%+v, %v", again, err)
	}
}

// A restore cures storage that failed; it does not bring back a node that another one has replaced.
func TestRestoreRevivesNoRetiredNode(t *testing.T) {
	before := replicatest.RunNode(t, replicatest.OnDisk)
	before.MustPut("a", "1")
	dir := before.MustBackup()
	before.MustPut("a", "2")
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	r := replicatest.OpenNode(t, replicatest.OnDisk, replicatest.InFolderOf(before.Rig))
	r.Retire(errors.New("replaced by node-2"))
	r.Start(t.Context())
	err := r.Restore(t.Context(), dir)
	if kv.KindOf(err) != kv.Unavailable || !strings.Contains(err.Error(), "replaced by node-2; nothing was changed") {
		t.Errorf("restore: %v", err)
	}
	if s := r.Status(); s.State != replica.Failed || s.Age != replica.NeverFresh || r.Age() != replica.NeverFresh {
		t.Errorf("state %v, age %v, %v", s.State, s.Age, r.Age())
	}
	if _, err := r.Propose(t.Context(), replicatest.Put("a", "3")); err == nil {
		t.Error("a put is acknowledged")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	replicatest.RunNode(t, replicatest.OnDisk, replicatest.InFolderOf(before.Rig)).WantValue("a", "2")
}

// A node that was stopped for a promotion may have what was never committed: no backup is made of it.
func TestLentStateIsNotBackedUp(t *testing.T) {
	r := replicatest.OpenNode(t, replicatest.OnDisk)
	r.Retire(errors.New("stopped"))
	r.Lend(func(context.Context) bool { return false })
	r.Start(t.Context())
	dir := filepath.Join(t.TempDir(), "backup")
	replicatest.WantError(t, r.Backup(t.Context(), dir), kv.Unavailable, kv.NotApplied)
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a backup there is something: %v", err)
	}
}

// A node that another one has replaced answers no read and no mutation, for good.
func TestRetiredNodeAnswersNothing(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	r.MustPut("a", "1")
	r.Retire(errors.New("replaced by node-2"))
	_, _, _, err := r.Get(t.Context(), []byte("a"), kv.ReadOptions{Level: kv.Sequential})
	if kv.KindOf(err) != kv.Unavailable || !strings.Contains(err.Error(), "replaced by node-2") {
		t.Error(err)
	}
}
