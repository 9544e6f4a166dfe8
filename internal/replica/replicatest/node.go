// Package replicatest has what the tests of several kinds of replica share: engines whose
// writes a test can watch, hold up and fail, a standalone replica over them, and requests.
package replicatest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/replica/local"
)

// Node is a standalone replica over memory engines whose writes a test can watch, hold up
// and fail.
type Node struct {
	*local.Replica
	*Rig
	Client
	// Ran is closed when Run has returned.
	Ran chan struct{}
}

// OpenNode opens a replica that does not run yet: diskless, unless a change says otherwise.
func OpenNode(t *testing.T, changes ...Change) *Node {
	t.Helper()
	r := &Node{Rig: NewRig(t, changes...), Ran: make(chan struct{})}
	r.open()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return r
}

func (r *Node) open() {
	r.T.Helper()
	l, err := local.Open(r.Options())
	if err != nil {
		r.T.Fatal("open:", err)
	}
	r.Replica, r.Client = l, NewClient(r.T, l)
}

// Options are those of the replica.
func (r *Node) Options() local.Options {
	return local.Options{Options: r.Opts, BatchLimit: r.BatchLimit}
}

// RunNode opens a replica and returns when it serves.
func RunNode(t *testing.T, changes ...Change) *Node {
	t.Helper()
	r := OpenNode(t, changes...)
	r.Start(context.Background())
	<-r.Served()
	return r
}

// Start runs the replica until ctx ends.
func (r *Node) Start(ctx context.Context) {
	l := r.Replica
	go func() {
		defer close(r.Ran)
		if err := l.Run(ctx); err != nil {
			r.T.Error("run:", err)
		}
	}()
}

// Folder lists the names in the replica's vBucket folder.
func (r *Node) Folder() []string {
	r.T.Helper()
	entries, err := os.ReadDir(filepath.Dir(r.Opts.Generations.Current()))
	if err != nil {
		r.T.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// MustBackup takes a backup and returns its path.
func (r *Node) MustBackup() string {
	r.T.Helper()
	dir := filepath.Join(r.T.TempDir(), "backups", "b1")
	if err := r.Backup(context.Background(), dir); err != nil {
		r.T.Fatal("backup:", err)
	}
	return dir
}

// MustRestore restores a backup.
func (r *Node) MustRestore(dir string) {
	r.T.Helper()
	if err := r.Restore(context.Background(), dir); err != nil {
		r.T.Fatal("restore:", err)
	}
}

// OtherBackup takes a backup of another replica, with another kind of engine, and returns its
// path.
func OtherBackup(t *testing.T) string {
	r := RunNode(t, OfOtherKind)
	r.MustPut("a", "1")
	return r.MustBackup()
}

// CopyFolder copies the data folder as it is now, as a crash would leave it, and returns
// the copy's path.
func (r *Node) CopyFolder() string {
	dst := filepath.Join(r.T.TempDir(), "image")
	if err := os.CopyFS(dst, os.DirFS(r.Dir.Path())); err != nil {
		r.T.Error(err)
	}
	return dst
}

// InImage gives a rig a copied data folder.
func InImage(path string) Change {
	return func(r *Rig) {
		OnDiskAt(r, path)
	}
}

// Outcome is the outcome of one proposal.
type Outcome struct {
	Res command.Result
	Err error
}

// ProposeAll proposes all commands at once and returns a function that waits for their
// outcomes.
func (r *Node) ProposeAll(ctx context.Context, cs ...*command.Command) func() []Outcome {
	out := make([]Outcome, len(cs))
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() { out[i].Res, out[i].Err = r.Propose(ctx, c) })
	}
	return func() []Outcome { wg.Wait(); return out }
}
