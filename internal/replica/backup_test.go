package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// otherBackup takes a backup, a=1, with an engine of another kind: it takes a
// restore the long way, through a snapshot stream.
func otherBackup(t *testing.T) string {
	r := newRig(t, ofOtherKind)
	r.mustPut("a", "1")
	return r.mustBackup()
}

// copyFolder copies a rig's data folder as it is now, as a crash leaves it.
func (r *rig) copyFolder() string {
	dst := filepath.Join(r.t.TempDir(), "image")
	if err := os.CopyFS(dst, os.DirFS(r.dir.Path())); err != nil {
		r.t.Error(err)
	}
	return dst
}

// inImage gives a rig a copied data folder.
func inImage(path string) change {
	return func(r *rig) {
		onDiskAt(r, path)
	}
}

func TestBackup(t *testing.T) {
	for name, c := range map[string][]change{"disk": {onDisk}, "diskless": nil} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			r := newRig(t, append(c, func(r *rig) { r.opts.Clock = wallClock(func() time.Time { return now }) })...)
			r.mustPut("a", "1")
			dir := r.mustBackup()
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
			wantError(t, err, kv.Precondition, kv.NotApplied)
			wantNoLeftovers(t, r, filepath.Dir(dir))
		})
	}
}

// TestBackupLeavesNeighboursAlone: no name that a user may give to a backup is
// one that a backup or a restore uses for itself.
func TestBackupLeavesNeighboursAlone(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "1")
	root := t.TempDir()
	for _, name := range []string{"b.tmp", "b.partial", "b.new", "b"} {
		if err := r.Backup(context.Background(), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.mustRestore(filepath.Join(root, "b"))
	for _, name := range []string{"b.tmp", "b.partial", "b.new", "b"} {
		if _, err := backup.Verify(context.Background(), filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestFailedBackupLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change change
		kind   kv.Kind
	}{
		"copy does not open": {func(r *rig) {
			r.opts.OpenKind = func(string, string) (storage.Engine, error) { return nil, storage.ErrCorrupt }
		}, kv.Corrupt},
		"checkpoint fails": {func(r *rig) {
			open := r.opts.Open
			r.opts.Open = func(dir string) (storage.Engine, error) {
				e, err := open(dir)
				return noCheckpoint{e}, err
			}
		}, kv.Exhausted},
		"copy is damaged": {func(r *rig) {
			open := r.opts.OpenKind
			r.opts.OpenKind = func(kind, dir string) (storage.Engine, error) {
				e, err := open(kind, dir)
				return damaged{e}, err
			}
		}, kv.Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, onDisk, c.change)
			r.mustPut("a", "1")
			root := t.TempDir()
			err := r.Backup(context.Background(), filepath.Join(root, "b"))
			wantError(t, err, c.kind, kv.NotApplied)
			if entries, _ := os.ReadDir(root); len(entries) != 0 {
				t.Errorf("it leaves %v", entries)
			}
			if got := r.folder(); !slices.Equal(got, []string{"CURRENT", "gen-000001"}) {
				t.Errorf("it leaves %q", got)
			}
			r.mustPut("a", "2")
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
	r := newRig(t, onDisk, func(r *rig) {
		open := r.opts.Open
		r.opts.Open = func(dir string) (storage.Engine, error) {
			e, err := open(dir)
			return rotten{e}, err
		}
	})
	r.mustPut("a", "1")
	if _, _, _, err := r.Get(context.Background(), []byte("rotten"), kv.ReadOptions{}); kv.KindOf(err) != kv.Corrupt {
		t.Fatalf("a damaged key: %v", err)
	}
	root := t.TempDir()
	wantError(t, r.Backup(context.Background(), filepath.Join(root, "b")), kv.Corrupt, kv.NotApplied)
	if entries, _ := os.ReadDir(root); len(entries) != 0 {
		t.Errorf("it leaves %v", entries)
	}
}

// rotten has one key whose block is damaged.
type rotten struct{ storage.Engine }

func (e rotten) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if string(key) == "rotten" {
		return nil, false, fmt.Errorf("%w: 000007.sst", storage.ErrCorrupt)
	}
	return e.Engine.Get(s, key)
}

func (e rotten) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	for _, key := range keys {
		if string(key) == "rotten" {
			return nil, fmt.Errorf("%w: 000007.sst", storage.ErrCorrupt)
		}
	}
	return e.Engine.MultiGet(s, keys)
}

// TestCloseEndsBackupAndRestore closes a replica that is in the middle of
// either.
func TestCloseEndsBackupAndRestore(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]func(r *rig, dir string) error{
		"backup":  func(r *rig, dir string) error { return r.Backup(ctx, dir+"2") },
		"restore": func(r *rig, dir string) error { return r.Restore(ctx, dir) },
	} {
		t.Run(name, func(t *testing.T) {
			begun, gate := make(chan struct{}), make(chan struct{})
			r := newRig(t, onDisk)
			dir := otherBackup(t)
			openKind := r.Local.opts.OpenKind
			r.Local.opts.OpenKind = func(kind, dir string) (storage.Engine, error) {
				close(begun)
				<-gate
				return openKind(kind, dir)
			}
			result, closed := make(chan error, 1), make(chan error, 1)
			go func() { result <- c(r, dir) }()
			<-begun
			go func() { closed <- r.Close() }()
			<-r.ran // Close is under way
			close(gate)
			err := <-result
			wantError(t, err, kv.Unavailable, kv.NotApplied)
			if !errors.Is(err, context.Canceled) && !errors.Is(err, errQueueClosed) {
				t.Errorf("error %v", err)
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
			wantNoLeftovers(t, r, filepath.Dir(dir))
		})
	}
}
