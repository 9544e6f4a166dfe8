package local_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// TestReopenNeedsRoom does not close what can be read before there is room for
// opening it.
func TestReopenNeedsRoom(t *testing.T) {
	var tight atomic.Bool
	r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) {
		var err error
		r.Opts.Guard, err = diskspace.New(r.Dir.Path(), func(total uint64) uint64 {
			if tight.Load() {
				return total
			}
			return 0
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	r.MustPut("k", "1")
	r.FailWrites(storage.ErrNoSpace)
	if _, err := r.Propose(t.Context(), replicatest.Put("k", "2")); err == nil {
		t.Fatal("the write succeeded")
	}
	r.OnWrite(nil)
	tight.Store(true)
	if err := r.Reopen(); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("reopen on a full disk: %v", err)
	}
	r.WantValue("k", "1")
	tight.Store(false)
	if err := r.Reopen(); err != nil || r.State() != replica.Serving {
		t.Errorf("reopen: %v, state %s", err, r.State())
	}
}
