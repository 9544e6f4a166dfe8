package replicatest

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// Rig is what a replica is opened with: memory engines whose writes a test can watch, hold
// up and fail.
type Rig struct {
	Engines
	T          *testing.T
	Opts       state.Options
	BatchLimit storage.BatchLimit
	Dir        *datadir.Dir // nil if the rig is diskless
}

// Change edits the options before the replica is opened.
type Change = func(*Rig)

// OnDisk gives the rig a data folder.
func OnDisk(r *Rig) { OnDiskAt(r, filepath.Join(r.T.TempDir(), "db")) }

// OnDiskAt gives the rig a data folder at a path.
func OnDiskAt(r *Rig, path string) {
	var err error
	if r.Dir, err = datadir.Open(path, datadir.Identity{Engine: memory.Kind}); err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(func() { r.Dir.Close() })
	r.Reread()
}

// Reread opens the vBucket's folder as a process that starts does.
func (r *Rig) Reread() {
	var err error
	if r.Opts.Generations, err = r.Dir.VBucket("default"); err != nil {
		r.T.Fatal(err)
	}
}

// InFolderOf gives the rig the data folder of another one, which is closed.
func InFolderOf(other *Rig) Change {
	return func(r *Rig) {
		r.Dir = other.Dir
		r.Reread()
	}
}

// NewRig returns the options of a replica, diskless unless a change says otherwise.
func NewRig(t *testing.T, changes ...Change) *Rig {
	t.Helper()
	r := &Rig{T: t}
	r.Opts = state.Options{
		Database: "db",
		VBucket:  "default",
		Open:     r.Open,
		OpenKind: func(kind, dir string) (storage.Engine, error) {
			if kind != memory.Kind && kind != OtherKind {
				return nil, fmt.Errorf("engine %q is not known", kind)
			}
			e, err := memory.Open(memory.Options{Dir: dir})
			return KindEngine{Engine: e, kind: kind}, err
		},
		Version: "v1.2.3",
		Log:     slog.New(slog.DiscardHandler),
	}
	for _, c := range changes {
		c(r)
	}
	return r
}

// OfOtherKind makes the rig's own engine one of another kind.
func OfOtherKind(r *Rig) {
	open := r.Opts.Open
	r.Opts.Open = func(dir string) (storage.Engine, error) {
		e, err := open(dir)
		return KindEngine{Engine: e, kind: OtherKind}, err
	}
}
