package local_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// TestRestoreAwaitsTheGate: a restore is done once the gate says so. An error of the gate undoes
// nothing, and meanwhile the replica serves and can be copied.
func TestRestoreAwaitsTheGate(t *testing.T) {
	gate := replicatest.NewGate()
	r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) { r.Opts.Gate = gate })
	r.MustPut("k", "old")
	dir := r.MustBackup()
	for i, answer := range []error{nil, kv.UnknownOutcome(kv.NotConfirmed, errors.New("applied here, not confirmed"))} {
		before := r.MustPut("k", "new")
		asked, done := gate.Hold(answer), make(chan error, 1)
		go func() { done <- r.Restore(context.Background(), dir) }()
		select {
		case at := <-asked:
			if at != before+1 || r.Status().State != replica.Serving {
				t.Errorf("the gate is asked for %d after %d, in state %s", at, before, r.Status().State)
			}
		case err := <-done:
			t.Fatalf("the restore does not ask the gate: %v", err)
		}
		if err := r.Backup(t.Context(), filepath.Join(filepath.Dir(dir), string(rune('a'+i)))); err != nil {
			t.Error(err)
		}
		gate.Release()
		if err := <-done; !errors.Is(err, answer) {
			t.Errorf("%v, want %v", err, answer)
		}
		r.WantValue("k", "old")
	}
	r.MustPut("k", "later")
}
