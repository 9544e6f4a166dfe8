package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// rig is a replica over memory engines whose writes a test can watch, hold up
// and fail.
type rig struct {
	*Local
	t    *testing.T
	opts LocalOptions
	dir  *datadir.Dir // nil where the rig is diskless
	// ran is closed when Run has returned.
	ran chan struct{}

	// writes counts the synced batches of all engines.
	writes atomic.Int64
	mu     sync.Mutex
	hook   func() error
}

// change edits the options before the replica is opened.
type change func(*rig)

// onDisk gives the rig a data folder.
func onDisk(r *rig) { onDiskAt(r, filepath.Join(r.t.TempDir(), "db")) }

func onDiskAt(r *rig, path string) {
	var err error
	if r.dir, err = datadir.Open(path, datadir.Identity{Engine: memory.Kind}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.dir.Close() })
	r.reread()
}

// reread looks at the data folder as a process does that starts.
func (r *rig) reread() {
	var err error
	if r.opts.Generations, err = r.dir.VBucket("default"); err != nil {
		r.t.Fatal(err)
	}
}

// inFolderOf gives the rig the data folder of another one, which is closed.
func inFolderOf(other *rig) change {
	return func(r *rig) {
		r.dir = other.dir
		r.reread()
	}
}

// openRig opens a replica, diskless unless a change says otherwise, that does
// not run yet.
func openRig(t *testing.T, changes ...change) *rig {
	t.Helper()
	r := makeRig(t, changes...)
	r.open()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return r
}

// makeRig says what a replica is to be opened with.
func makeRig(t *testing.T, changes ...change) *rig {
	t.Helper()
	r := &rig{t: t, ran: make(chan struct{})}
	r.opts.StateOptions = StateOptions{
		Database: "db",
		VBucket:  "default",
		Open:     r.openEngine,
		OpenKind: func(kind, dir string) (storage.Engine, error) {
			if kind != memory.Kind && kind != otherKind {
				return nil, fmt.Errorf("engine %q is not known", kind)
			}
			e, err := memory.Open(memory.Options{Dir: dir})
			return kindEngine{Engine: e, kind: kind}, err
		},
		Version: "v1.2.3",
		Log:     slog.New(slog.DiscardHandler),
	}
	for _, c := range changes {
		c(r)
	}
	return r
}

func (r *rig) open() {
	r.t.Helper()
	l, err := OpenLocal(r.opts)
	if err != nil {
		r.t.Fatal("open:", err)
	}
	r.Local = l
}

// wallClock takes whatever a wall clock says for the time.
func wallClock(wall func() time.Time) *clock.Clock {
	return clock.New(clock.Options{Wall: wall, MaxJump: 100 * 365 * 24 * time.Hour})
}

// newRig opens a replica and returns once it runs.
func newRig(t *testing.T, changes ...change) *rig {
	t.Helper()
	r := openRig(t, changes...)
	r.run(context.Background())
	if err := r.do(context.Background(), func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) run(ctx context.Context) {
	l := r.Local
	go func() {
		defer close(r.ran)
		if err := l.Run(ctx); err != nil {
			r.t.Error("run:", err)
		}
	}()
}

// onWrite sets what every synced write of an engine does first; nil is nothing.
func (r *rig) onWrite(hook func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = hook
}

func (r *rig) beforeSync() error {
	r.writes.Add(1)
	r.mu.Lock()
	hook := r.hook
	r.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook()
}

// holdWrites makes writes wait. It returns a channel that tells of each write
// that has begun, and a function that lets them all go.
func (r *rig) holdWrites() (begun chan struct{}, release func()) {
	begun, gate := make(chan struct{}, 1000), make(chan struct{})
	r.onWrite(func() error {
		begun <- struct{}{}
		<-gate
		return nil
	})
	return begun, sync.OnceFunc(func() { r.onWrite(nil); close(gate) })
}

// failWrites makes every write from here on fail with err.
func (r *rig) failWrites(err error) { r.onWrite(func() error { return err }) }

func (r *rig) openEngine(dir string) (storage.Engine, error) {
	opts := memory.Options{OnSync: r.beforeSync}
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "checkpoint.mem")); err == nil {
			opts.Dir = dir
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	e, err := memory.Open(opts)
	if err != nil || dir == "" {
		return e, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	return &diskEngine{Engine: e, dir: dir}, nil
}

// diskEngine is a memory engine that is found again when it is reopened: each
// synced write replaces a checkpoint in its folder.
type diskEngine struct {
	*memory.Engine
	dir string
	mu  sync.Mutex
	// beforeWrite is what every write does first; nil is nothing.
	beforeWrite func()
}

func (e *diskEngine) Write(b *storage.Batch, sync bool) error {
	if e.beforeWrite != nil {
		e.beforeWrite()
	}
	if err := e.Engine.Write(b, sync); err != nil || !sync {
		return err
	}
	return e.save()
}

func (e *diskEngine) Sync() error {
	if err := e.Engine.Sync(); err != nil {
		return err
	}
	return e.save()
}

func (e *diskEngine) save() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	tmp := filepath.Join(e.dir, "saving")
	if err := e.Checkpoint(tmp); err != nil {
		return err
	}
	const file = "checkpoint.mem"
	return errors.Join(os.Rename(filepath.Join(tmp, file), filepath.Join(e.dir, file)), os.Remove(tmp))
}

// otherKind stands for an engine of another kind, whose files ours cannot use.
const otherKind = "other"

type kindEngine struct {
	storage.Engine
	kind string
}

func (e kindEngine) Kind() string { return e.kind }

// ofOtherKind makes the rig's own engine one of another kind.
func ofOtherKind(r *rig) {
	open := r.opts.Open
	r.opts.Open = func(dir string) (storage.Engine, error) {
		e, err := open(dir)
		return kindEngine{Engine: e, kind: otherKind}, err
	}
}

func put(key, value string) *command.Command {
	return &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: []byte(key), Value: []byte(value)}}}
}

func del(key string) *command.Command {
	return &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: []byte(key), Delete: true}}}
}

func putUntil(key, value string, at time.Time) *command.Command {
	c := put(key, value)
	c.Mutations[0].ExpireTS = uint64(at.Unix())
	return c
}

// mustPut sets a key and returns the index.
func (r *rig) mustPut(key, value string) kv.Index {
	r.t.Helper()
	return r.mustPropose(put(key, value)).Index
}

func (r *rig) mustPropose(c *command.Command) command.Result {
	r.t.Helper()
	res, err := r.Propose(context.Background(), c)
	if err != nil || res.Code != command.OK {
		r.t.Fatalf("propose %v: %v, %v", c.Kind, res, err)
	}
	return res
}

// value returns what is at key, "" where nothing is.
func (r *rig) value(key string) string {
	r.t.Helper()
	p, _, _, err := r.Get(context.Background(), []byte(key), kv.ReadOptions{})
	if err != nil {
		r.t.Fatal("get:", err)
	}
	return string(p.Value)
}

func (r *rig) wantValue(key, want string) {
	r.t.Helper()
	if got := r.value(key); got != want {
		r.t.Errorf("%s is %q, want %q", key, got, want)
	}
}

// keys lists a view's keys.
func keys(t *testing.T, v View) []string {
	t.Helper()
	it := v.Iterate(storage.Range{})
	defer it.Close()
	out := []string{}
	for it.Next() {
		out = append(out, string(it.Pair().Key))
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// wantError checks an error's kind and outcome.
func wantError(t *testing.T, err error, kind kv.Kind, outcome kv.Outcome) {
	t.Helper()
	var known *kv.Error
	if !errors.As(err, &known) {
		t.Fatalf("error %v is no kv.Error", err)
	}
	if known.Kind != kind || known.Outcome != outcome {
		t.Errorf("error %q has kind %d (%v), want %d (%v)", err, known.Kind, known.Outcome, kind, outcome)
	}
}
