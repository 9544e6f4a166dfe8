// Package state holds the state of a vBucket's replica: the state machine in its engine,
// and what every kind of replica needs around it. That is how the state is opened, reopened
// after a failure and replaced (TakeOver), whether it may be read and written (Standing),
// its clock, waits for an index, backups, and the loops that expire keys, trim the changelog
// and free space. What keeps the log is decided by the packages local, raft and follower,
// which hold a Store.
package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// Options say where a replica's state is stored and how it is maintained. They are the same
// for every kind of replica.
type Options struct {
	// Database and VBucket name it, in backups and errors.
	Database, VBucket string
	// VBuckets is the number of vBuckets of the database, for backups.
	VBuckets int
	// Open opens the engine in a directory, which is empty for a diskless one.
	Open func(dir string) (storage.Engine, error)
	// OpenKind opens an engine directory of the named kind, for backups.
	OpenKind func(kind, dir string) (storage.Engine, error)
	// Generations are the replica's folders; nil means diskless.
	Generations *datadir.Generations
	// Guard rejects mutations while the disk is nearly full; nil never does.
	Guard *diskspace.Guard
	// Retention bounds the changelog.
	Retention changelog.Retention
	// ViewPatience is how long reads that do not end may keep a failed state from being
	// reopened before they are cut off; 0 means viewPatience.
	ViewPatience time.Duration
	// Withheld returns why no backup may be made of the present state. It is called while the
	// state is locked; nil always allows it.
	Withheld func() error
	// Version goes into backups.
	Version string
	Log     *slog.Logger
	// Clock is the node's clock; nil means one that asks no other node.
	Clock *clock.Clock
	// Changed is raised when what the replica is doing, or whether it can be read, has
	// changed; nil is not. Under Raft it is also raised when the log's owner may have changed.
	Changed *signal.Signal
	// Gate decides whether the log's owner may answer; nil always may.
	Gate replica.Gate
	// Reads bounds the reads of all replicas of the process; nil bounds those of this one
	// alone.
	Reads *Reads
}

// Store holds a vBucket's state: a state machine that may be replaced while others read it,
// and a standing, which says whether it may be written.
type Store struct {
	opts     Options
	machine  atomic.Pointer[fsm.Machine]
	progress progress
	standing atomic.Pointer[Standing]
	ticks    ticks
	propose  Proposer
	// swapping holds a token while the state is being replaced, or its files are being
	// linked.
	swapping chan struct{}
	// copying holds a token while a backup is being taken or restored, however long that
	// takes.
	copying chan struct{}
	// background are the goroutines that Close waits for, and Run does not; see Go.
	background sync.WaitGroup

	mu      sync.Mutex
	running bool
	closed  bool
	// unreadable is why nothing can be read; nil if reads are served.
	unreadable error
	// changed is raised when readers that wait should look again.
	changed signal.Signal
	// heldUp ends long reads, if it is set; see WhenHeldUp.
	heldUp func()
	// heldUpSince is when reads began to keep a failed state from being opened again; zero
	// while none do. It is guarded by swapping.
	heldUpSince time.Time

	// served is closed when the first request can be served.
	served  chan struct{}
	closing chan struct{}
	stopped chan struct{}
	// untilClosing ends what lasts until the replica closes; guarded by mu.
	untilClosing map[context.Context]context.CancelFunc
	close        sync.Once
	closeErr     error
}

// Open opens the state in its engine; load makes the state machine. propose puts a command
// into the replica's log; it is nil if the replica has none.
func Open(opts Options, load Loader, propose Proposer) (*Store, error) {
	if opts.Clock == nil {
		opts.Clock = clock.New(clock.Options{Log: opts.Log})
	}
	if opts.Changed == nil {
		opts.Changed = new(signal.Signal)
	}
	if opts.Reads == nil {
		opts.Reads = NewReads()
	}
	if opts.ViewPatience == 0 {
		opts.ViewPatience = viewPatience
	}
	c := &Store{
		opts:     opts,
		propose:  propose,
		swapping: make(chan struct{}, 1),
		copying:  make(chan struct{}, 1),
		served:   make(chan struct{}),
		closing:  make(chan struct{}),
		stopped:  make(chan struct{}),

		untilClosing: map[context.Context]context.CancelFunc{},
	}
	c.standing.Store(newStanding(replica.Starting, nil))
	m, err := c.openMachine(load)
	if err != nil {
		return nil, err
	}
	c.machine.Store(m)
	c.opts.Clock.ContinueFrom(m.Clock().Time())
	c.progress.advance(m.Applied())
	c.opts.Guard.Owes(c.owed)
	return c, nil
}

// Loader makes a state machine of the content of an engine.
type Loader = func(storage.Engine) (*fsm.Machine, error)

// Proposer puts a command into the log; see Replica.Propose.
type Proposer = func(context.Context, *command.Command) (command.Result, error)

// Options are those that the state was opened with, with their defaults.
func (c *Store) Options() Options { return c.opts }

// Advance notes that the state has grown to an index, and wakes what waits for that.
func (c *Store) Advance(applied kv.Index) { c.progress.advance(applied) }

// Watch returns the applied index, and a channel that is closed at the next advance.
func (c *Store) Watch() (kv.Index, <-chan struct{}) { return c.progress.watch() }

// openMachine opens the present generation's state.
func (c *Store) openMachine(load Loader) (*fsm.Machine, error) {
	g := c.opts.Generations
	if g == nil {
		return c.OpenAt("", load)
	}
	if g.Used() || c.machine.Load() != nil {
		load = existing(load)
	}
	return c.OpenAt(g.Current(), load)
}

// existing is a loader for an engine that has a state: one without would become an empty one, and
// all that was in it would look as if it had never been there.
func existing(load Loader) Loader {
	return func(engine storage.Engine) (*fsm.Machine, error) {
		if _, _, err := offline.Inspect(engine); errors.Is(err, offline.ErrNoState) {
			return nil, fmt.Errorf("the folder was used before, and its files are incomplete: %w; put all of them back, or restore a backup into an empty db-folder", err)
		}
		return load(engine)
	}
}

func (c *Store) OpenAt(dir string, load Loader) (*fsm.Machine, error) {
	engine, err := c.opts.Open(dir)
	if err != nil {
		return nil, err
	}
	m, err := load(engine)
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return m, nil
}

// Machine returns the present state machine.
func (c *Store) Machine() *fsm.Machine { return c.machine.Load() }

// Applied is that of Status, and cheap enough for every request.
func (c *Store) Applied() kv.Index { return c.machine.Load().Applied() }

// owed is how many bytes the engine has yet to write by itself: its memtables.
func (c *Store) owed() uint64 { return c.machine.Load().MemtableBytes() }

// Start reports whether Run may continue: it has not run before, and the replica is not
// closed.
func (c *Store) Start() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.running {
		return false
	}
	c.running = true
	return true
}

// Serve ends the start: from here on requests are served.
func (c *Store) Serve() {
	c.Become(replica.Serving, nil, replica.Starting)
	close(c.served)
}

// End notes that Run has returned.
func (c *Store) End() { close(c.stopped) }

// Ended is closed when Run has returned.
func (c *Store) Ended() <-chan struct{} { return c.stopped }

// Closing is closed when the replica begins to close.
func (c *Store) Closing() <-chan struct{} { return c.closing }

// IsClosing reports whether the replica has begun to close. It is so before UntilClosing's
// contexts end.
func (c *Store) IsClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Served is closed once Run serves.
func (c *Store) Served() <-chan struct{} { return c.served }

// Close ends Run, if it runs, as well as backups and restores, and closes the state once
// its readers are done. It calls last as soon as nothing can replace the state any more.
func (c *Store) Close(last func()) error {
	c.close.Do(func() {
		c.mu.Lock()
		c.closed = true
		running := c.running
		for _, cancel := range c.untilClosing {
			cancel()
		}
		close(c.closing)
		c.mu.Unlock()
		if running {
			<-c.stopped
		}
		c.swapping <- struct{}{}
		c.Become(replica.Closed, nil)
		<-c.swapping
		last()
		c.background.Wait()
		c.closeErr = c.machine.Load().Close()
	})
	return c.closeErr
}

// LockCopy keeps others from taking or restoring a backup until the caller calls unlock.
func (c *Store) LockCopy(ctx context.Context) (unlock func(), err error) {
	return c.lock(ctx, c.copying)
}

// LockState keeps others from replacing the state, or linking its files, until the caller
// calls unlock.
func (c *Store) LockState(ctx context.Context) (unlock func(), err error) {
	return c.lock(ctx, c.swapping)
}

// HoldState is LockState for a caller that waits however long it takes, also for a replica
// that is closed.
func (c *Store) HoldState() (unlock func()) {
	c.swapping <- struct{}{}
	return func() { <-c.swapping }
}

func (c *Store) lock(ctx context.Context, token chan struct{}) (unlock func(), err error) {
	select {
	case token <- struct{}{}:
	case <-c.closing:
		return nil, replica.ErrClosed
	case <-ctx.Done():
		return nil, kv.Errorf(kv.Unavailable, "another backup or restore is under way: %w", ctx.Err())
	}
	unlock = func() { <-token }
	if c.State() == replica.Closed {
		unlock()
		return nil, replica.ErrClosed
	}
	return unlock, nil
}

// Go runs f in a goroutine that Close waits for, and reports whether it does: not if the
// replica is closed.
func (c *Store) Go(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.background.Go(f)
	}
	return !c.closed
}

// Begin has Close wait until done is called; ok is false if the replica is closed.
func (c *Store) Begin() (done func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false
	}
	c.background.Add(1)
	return c.background.Done, true
}

// UntilClosing returns a context that also ends when the replica closes.
func (c *Store) UntilClosing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cancel()
		return ctx, cancel
	}
	c.untilClosing[ctx] = cancel
	return ctx, func() {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.untilClosing, ctx)
	}
}

// replace makes m the present machine.
func (c *Store) replace(m *fsm.Machine) {
	if before := c.machine.Swap(m); m.Clock() < before.Clock() {
		c.opts.Clock.Reset(m.Clock().Time()) // the log's clock was set in between
	}
	c.progress.advance(m.Applied())
	c.SetUnreadable(nil)
}

// SetUnreadable sets why the state cannot be read (nil: it can), and wakes the readers that
// wait.
func (c *Store) SetUnreadable(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unreadable = err
	c.changed.Raise()
	c.opts.Changed.Raise()
}

// discard closes a state that was replaced, once its last reader is done, and
// removes its folder.
func (c *Store) discard(old *fsm.Machine, place string) {
	c.closeReplaced(old)
	defer c.HoldState()()
	c.remove(place)
}

func (c *Store) closeReplaced(old *fsm.Machine) {
	if err := old.Close(); err != nil {
		c.opts.Log.Warn("the replaced state does not close cleanly", "vbucket", c.opts.VBucket, "error", err)
	}
}

// remove deletes the folder of a state that is not the present one. What stays
// is removed when the folder is opened again.
func (c *Store) remove(place string) {
	if c.opts.Generations == nil {
		return
	}
	if err := c.opts.Generations.Remove(place); err != nil {
		c.opts.Log.Warn("cannot remove a folder that is no longer used", "vbucket", c.opts.VBucket, "error", err)
	}
}
