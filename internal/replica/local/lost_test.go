package local_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

// loseData removes what the engine has in its folder, as a copy that was cut short lacks it.
func loseData(t *testing.T, r *replicatest.Node) {
	t.Helper()
	dir := r.Opts.Generations.Current()
	if err := errors.Join(os.Remove(filepath.Join(dir, "checkpoint.mem")), os.WriteFile(filepath.Join(dir, "LOG"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestIncompleteFolderIsNoNewDatabase: a node that has lost its data does not start with an empty
// keyspace.
func TestIncompleteFolderIsNoNewDatabase(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	r.MustPut("a", "1")
	if err := errors.Join(r.Dir.Claim(), r.Close()); err != nil {
		t.Fatal(err)
	}
	loseData(t, r)
	r.Reread()
	again, err := local.Open(r.Options())
	if err == nil {
		_ = again.Close()
	}
	if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "its files are incomplete") {
		t.Errorf("error %v", err)
	}
}

// TestDataThatIsLostUnderARunningNode: it does not go on with an empty keyspace when the disk has
// room again.
func TestDataThatIsLostUnderARunningNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t, replicatest.OnDisk)
		r.MustPut("a", "1")
		r.FailWrites(storage.ErrNoSpace)
		if _, err := r.Propose(t.Context(), replicatest.Put("a", "2")); err == nil {
			t.Fatal("the write succeeded")
		}
		loseData(t, r)
		r.OnWrite(nil)
		time.Sleep(3 * state.ReopenInterval)
		synctest.Wait()
		if s := r.State(); s != replica.Failed {
			t.Errorf("state %s", s)
		}
	})
}

// TestDamagedStateIsNotTakenForLost: damage is named as such.
func TestDamagedStateIsNotTakenForLost(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	if err := errors.Join(r.Dir.Claim(), r.Close()); err != nil {
		t.Fatal(err)
	}
	r.Reread()
	opts := r.Options()
	opts.Open = func(dir string) (storage.Engine, error) {
		e, err := r.Open(dir)
		return unreadable{e}, err
	}
	if _, err := local.Open(opts); !errors.Is(err, storage.ErrCorrupt) || strings.Contains(err.Error(), "incomplete") {
		t.Errorf("error %v", err)
	}
}

// unreadable is an engine none of whose blocks can be read.
type unreadable struct{ storage.Engine }

func (unreadable) Get(storage.Space, []byte) ([]byte, bool, error) {
	return nil, false, fmt.Errorf("%w: 000007.sst", storage.ErrCorrupt)
}
