package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLog is a log that applies what is proposed at once.
type fakeLog struct {
	*confirm.Log
	mu      sync.Mutex
	raw     []byte
	changed kv.Index
	last    atomic.Uint64
	owned   atomic.Bool
	journal *journal
}

// journal is what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last call.
func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := j.lines
	j.lines = nil
	return out
}

func (f *fakeLog) Standbys() ([]byte, kv.Index) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.raw, f.changed
}
func (f *fakeLog) LastEffect() kv.Index                    { return f.last.Load() }
func (f *fakeLog) Tenure() uint64                          { return 0 }
func (f *fakeLog) State() replica.State                    { return replica.Serving }
func (f *fakeLog) Shown(context.Context) (kv.Index, error) { return f.LastEffect(), nil }
func (f *fakeLog) History() string                         { return "h" }
func (f *fakeLog) Owner() replica.Owner                    { return replica.Owner{Self: f.owned.Load()} }

func (f *fakeLog) propose(_ context.Context, c *command.Command) (command.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if kv.Index(c.Delta) != f.changed {
		return command.Result{Code: command.NotUpdated}, nil
	}
	f.raw, f.changed = c.Expect, max(f.changed, f.last.Load())+1
	set, err := standby.DecodeSet(f.raw)
	if err != nil {
		return command.Result{}, err
	}
	line := f.VBucket() + " " + set.Level.String()
	for _, n := range set.Nodes {
		line += fmt.Sprintf(" %s:%s", n.Disk, n.Phase)
	}
	if set.Fallback {
		line += " fallback"
	}
	f.journal.add("%s", line)
	return command.Result{Index: f.changed}, nil
}

// fakeRecord is a record whose changes a test sees, and may have fail.
type fakeRecord struct {
	journal *journal
	down    atomic.Bool

	mu sync.Mutex
	// named are the disks that the record names.
	named map[string]bool
	// levels are those that it names them at.
	levels map[string]kv.Ack
}

func (r *fakeRecord) name(disk string, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.named == nil {
		r.named = map[string]bool{}
	}
	r.named[disk] = is
}

func (r *fakeRecord) Names(disk string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.named[disk]
}

func (r *fakeRecord) level(disk string, at kv.Ack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.levels == nil {
		r.levels = map[string]kv.Ack{}
	}
	r.levels[disk] = at
}

func (r *fakeRecord) Unlevelled(disk string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.named[disk] && r.levels[disk] == kv.AckDefault
}

var errDown = errors.New("the registry is down")

func (r *fakeRecord) Leaving(_ context.Context, disks []string) error {
	if r.down.Load() {
		return errDown
	}
	for _, d := range disks {
		r.name(d, false)
	}
	r.journal.add("record without %v", disks)
	return nil
}

func (r *fakeRecord) Enter(ctx context.Context, n standby.Node, standing func(context.Context) (kv.Ack, error)) error {
	if r.down.Load() {
		return errDown
	}
	level, err := standing(ctx)
	if err != nil {
		return err
	}
	r.name(n.Disk, true)
	r.level(n.Disk, level)
	r.journal.add("record with %s", n.Disk)
	return nil
}

// bench is a node that owns some logs.
type bench struct {
	*journal
	t        *testing.T
	logs     []*fakeLog
	record   *fakeRecord
	opts     Options
	stop     func()
	everyone Everyone
}

func newBench(t *testing.T, opts Options, vBuckets ...string) *bench {
	t.Helper()
	return benchWith(t, nil, opts, vBuckets...)
}

// benchWith is newBench with what answers at level all have found out.
func benchWith(t *testing.T, everyone Everyone, opts Options, vBuckets ...string) *bench {
	t.Helper()
	b := &bench{journal: new(journal), t: t, opts: opts, everyone: everyone}
	b.record = &fakeRecord{journal: b.journal}
	b.opts.Log = slog.New(slog.DiscardHandler)
	for _, name := range vBuckets {
		f := &fakeLog{journal: b.journal, Log: confirm.New(confirm.Options{VBucket: name, Level: opts.Level, FallBack: opts.FallBack})}
		f.Bind(f)
		f.last.Store(1)
		f.owned.Store(true)
		b.logs = append(b.logs, f)
		b.opts.Logs = append(b.opts.Logs, Log{Log: f.Log, Propose: f.propose, Everyone: b.everyone})
	}
	return b
}

// run begins, or begins again with other options.
func (b *bench) run() {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); New(b.opts).Run(ctx) }()
	b.stop = func() { cancel(); <-done }
}

// wants checks what has happened since the last call.
func (b *bench) wants(what string, want ...string) {
	b.t.Helper()
	synctest.Wait()
	if got := b.take(); !slices.Equal(got, want) {
		b.t.Fatalf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// slave is a slave that confirms by a link of its own.
func slave(disk, dc string) *confirm.Link {
	return confirm.NewLink(confirm.Slave{Disk: disk, Start: 1, Address: disk + ":1", DC: dc, Durable: true})
}

// again is a slave that has been started again.
func again(disk string, start uint64) *confirm.Link {
	return confirm.NewLink(confirm.Slave{Disk: disk, Start: start, Address: disk + ":1", Durable: true})
}

// confirm has a slave have everything up to an index.
func (b *bench) confirm(l *fakeLog, link *confirm.Link, index kv.Index) {
	b.t.Helper()
	if err := l.Confirm(link, confirm.Position{History: "h", Received: index, Applied: index, Synced: index}); err != nil {
		b.t.Fatal(err)
	}
}

// write has the log get a change, whose answer waits; the returned channel gets its error.
func (b *bench) write(l *fakeLog) <-chan error {
	index := l.last.Add(1)
	out := make(chan error, 1)
	go func() {
		_, err := l.Await(b.t.Context(), index, kv.AckDefault)
		out <- err
	}()
	return out
}
