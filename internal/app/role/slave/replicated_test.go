package slave

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
)

// A copy that a promotion has sealed may get changes that were never committed: other nodes and
// backups copy it only when that is over.
func TestSealedCopyIsForItsPromotion(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	view, _, err := src.View(t.Context(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	f, err := follower.Open(follower.Options{Options: replicatest.NewRig(t, replicatest.OnDisk).Opts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	err = f.Replace(t.Context(), false, func(_ context.Context, open func() (storage.Engine, error)) error {
		engine, err := open()
		if err != nil {
			return err
		}
		all, _, err := view.Chunk(nil, 1<<20)
		l := chunks.NewLoader(engine)
		return errors.Join(err, l.Add(all), l.Finish())
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &replicated{Replica: f}
	changes := func(promotion string) error {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("dkv-promotion", promotion))
		_, err := r.Changes(ctx, 2, 0, 1<<20)
		return err
	}
	root := t.TempDir()
	backup := func(name string) error { return r.Backup(t.Context(), filepath.Join(root, name)) }
	if err := errors.Join(changes(""), changes("p1"), r.Withheld(), backup("before")); err != nil {
		t.Error(err)
	}
	if err := f.Seal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	if err := changes("p1"); err != nil {
		t.Error(err)
	}
	for _, err := range []error{changes(""), changes("p2"), r.Withheld(), backup("sealed")} {
		replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	}
	if _, err := os.Lstat(filepath.Join(root, "sealed")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a backup of the sealed copy: %v", err)
	}
	if err := f.Unseal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(changes(""), r.Withheld(), backup("sealed")); err != nil {
		t.Error(err)
	}
}
