package state_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
)

// OtherBackup takes a backup, a=1, with an engine of another kind: it takes a
// restore the long way, through a snapshot stream.
func TestBackup(t *testing.T) {
	for name, c := range map[string][]replicatest.Change{"disk": {replicatest.OnDisk}, "diskless": nil} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			r := replicatest.RunNode(t, append(c, func(r *replicatest.Rig) { r.Opts.Clock = replicatest.WallClock(func() time.Time { return now }) })...)
			r.MustPut("a", "1")
			dir := r.MustBackup()
			m, err := backup.Verify(context.Background(), dir)
			if err != nil {
				t.Fatal(err)
			}
			id := r.Status().Identity
			want := backup.Info{
				Engine: "memory", Database: "db", VBucket: "default", Cluster: id.Cluster, History: id.History,
				Index: 1, Created: now, Version: "v1.2.3",
			}
			if m.Info != want {
				t.Errorf("info %+v, want %+v", m.Info, want)
			}
			err = r.Backup(context.Background(), dir)
			replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
			replicatest.WantNoLeftovers(t, r, filepath.Dir(dir))
		})
	}
}

// TestBackupLeavesNeighboursAlone: no name that a user may give to a backup is
// one that a backup or a restore uses for itself.
func TestBackupLeavesNeighboursAlone(t *testing.T) {
	r := replicatest.RunNode(t)
	r.MustPut("a", "1")
	root := t.TempDir()
	for _, name := range []string{"b.tmp", "b.partial", "b.new", "b"} {
		if err := r.Backup(context.Background(), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.MustRestore(filepath.Join(root, "b"))
	for _, name := range []string{"b.tmp", "b.partial", "b.new", "b"} {
		if _, err := backup.Verify(context.Background(), filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestFailedBackupLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change replicatest.Change
		kind   kv.Kind
	}{
		"copy does not open": {func(r *replicatest.Rig) {
			r.Opts.OpenKind = func(string, string) (storage.Engine, error) { return nil, storage.ErrCorrupt }
		}, kv.Corrupt},
		"no room to open the copy": {func(r *replicatest.Rig) {
			r.Opts.OpenKind = func(string, string) (storage.Engine, error) { return nil, storage.ErrNoSpace }
		}, kv.Exhausted},
		"checkpoint fails": {func(r *replicatest.Rig) {
			open := r.Opts.Open
			r.Opts.Open = func(dir string) (storage.Engine, error) {
				e, err := open(dir)
				return noCheckpoint{e}, err
			}
		}, kv.Exhausted},
		"copy is damaged": {func(r *replicatest.Rig) {
			open := r.Opts.OpenKind
			r.Opts.OpenKind = func(kind, dir string) (storage.Engine, error) {
				e, err := open(kind, dir)
				return damaged{e}, err
			}
		}, kv.Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			r := replicatest.RunNode(t, replicatest.OnDisk, c.change)
			r.MustPut("a", "1")
			root := t.TempDir()
			err := r.Backup(context.Background(), filepath.Join(root, "b"))
			replicatest.WantError(t, err, c.kind, kv.NotApplied)
			if got := strings.Contains(err.Error(), "not sound"); got != (c.kind == kv.Corrupt) {
				t.Errorf("%v", err)
			}
			if entries, _ := os.ReadDir(root); len(entries) != 0 {
				t.Errorf("it leaves %v", entries)
			}
			if got := r.Folder(); !slices.Equal(got, []string{"CURRENT", "gen-000001"}) {
				t.Errorf("it leaves %q", got)
			}
			r.MustPut("a", "2")
		})
	}
}

type noCheckpoint struct{ storage.Engine }

func (noCheckpoint) Checkpoint(string) error { return storage.ErrNoSpace }

// damaged opens, but not all of it can be read.
type damaged struct{ storage.Engine }

func (damaged) Verify(context.Context) error { return storage.ErrCorrupt }

// TestNoBackupOfDamagedData: what a read has met is not carried into a backup.
func TestNoBackupOfDamagedData(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) {
		open := r.Opts.Open
		r.Opts.Open = func(dir string) (storage.Engine, error) {
			e, err := open(dir)
			return replicatest.Rotten{Engine: e}, err
		}
	})
	r.MustPut("a", "1")
	if _, _, _, err := r.Get(context.Background(), []byte("rotten"), kv.ReadOptions{}); kv.KindOf(err) != kv.Corrupt {
		t.Fatalf("a damaged key: %v", err)
	}
	root := t.TempDir()
	replicatest.WantError(t, r.Backup(context.Background(), filepath.Join(root, "b")), kv.Corrupt, kv.NotApplied)
	if entries, _ := os.ReadDir(root); len(entries) != 0 {
		t.Errorf("it leaves %v", entries)
	}
}

// TestCloseEndsBackupAndRestore closes a replica that is in the middle of
// either.
func TestCloseEndsBackupAndRestore(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]func(r *replicatest.Node, dir string) error{
		"backup":  func(r *replicatest.Node, dir string) error { return r.Backup(ctx, dir+"2") },
		"restore": func(r *replicatest.Node, dir string) error { return r.Restore(ctx, dir) },
	} {
		t.Run(name, func(t *testing.T) {
			begun, gate := make(chan struct{}), make(chan struct{})
			r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) {
				openKind := r.Opts.OpenKind
				r.Opts.OpenKind = func(kind, dir string) (storage.Engine, error) {
					close(begun)
					<-gate
					return openKind(kind, dir)
				}
			})
			dir := replicatest.OtherBackup(t)
			result, closed := make(chan error, 1), make(chan error, 1)
			go func() { result <- c(r, dir) }()
			<-begun
			go func() { closed <- r.Close() }()
			<-r.Ran // Close is under way
			close(gate)
			err := <-result
			replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
			if !errors.Is(err, context.Canceled) && !errors.Is(err, replica.ErrClosed) {
				t.Errorf("error %v", err)
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
			replicatest.WantNoLeftovers(t, r, filepath.Dir(dir))
		})
	}
}
