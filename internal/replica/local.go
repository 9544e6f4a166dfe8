package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// LocalOptions are what a Local replica is made of.
type LocalOptions struct {
	// Database and VBucket name it, in backups and errors.
	Database, VBucket string
	// Open opens the engine in a directory, which is empty for a diskless one.
	Open func(dir string) (storage.Engine, error)
	// OpenKind opens an engine directory of the named kind, for backups.
	OpenKind func(kind, dir string) (storage.Engine, error)
	// Generations are the replica's folders; nil means diskless.
	Generations *datadir.Generations
	// BatchLimit is what the engine writes atomically.
	BatchLimit storage.BatchLimit
	// Guard refuses mutations while the disk is nearly full; nil never does.
	Guard *diskspace.Guard
	// Retention bounds the changelog.
	Retention changelog.Retention
	// Version goes into backups.
	Version string
	Log     *slog.Logger
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Local is a Replica whose log is the engine's own: every group of waiting
// proposals becomes one engine batch with one fsync, after which all of them
// are acknowledged.
type Local struct {
	opts  LocalOptions
	queue *queue
	// exclusive runs functions between two groups.
	exclusive chan func()
	machine   atomic.Pointer[fsm.Machine]
	progress  progress
	standing  atomic.Pointer[standing]
	// lastClock keeps the clock of reads and proposals from going backwards.
	lastClock atomic.Uint64
	// swapping holds a token of whoever replaces or copies the state.
	swapping chan struct{}
	// background are the goroutines that Run does not wait for.
	background sync.WaitGroup

	mu      sync.Mutex
	running bool
	closed  bool
	// replaced is closed, and made anew, when another machine takes over.
	replaced chan struct{}

	closing  chan struct{}
	stopped  chan struct{}
	close    sync.Once
	closeErr error
}

// groups bound what one engine batch takes in: beyond them a longer wait for
// the disk buys no more throughput.
const (
	maxGroupCommands = 4096
	maxGroupBytes    = 4 << 20
)

// OpenLocal opens the replica's present state. Nothing runs until Run does.
func OpenLocal(opts LocalOptions) (*Local, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Local{
		opts:      opts,
		queue:     newQueue(),
		exclusive: make(chan func()),
		swapping:  make(chan struct{}, 1),
		stopped:   make(chan struct{}),
		closing:   make(chan struct{}),
		replaced:  make(chan struct{}),
	}
	l.standing.Store(newStanding(Starting, nil))
	m, err := l.openMachine()
	if err != nil {
		return nil, err
	}
	l.machine.Store(m)
	l.progress.advance(m.Applied())
	return l, nil
}

func (l *Local) openMachine() (*fsm.Machine, error) {
	dir := ""
	if l.opts.Generations != nil {
		dir = l.opts.Generations.Current()
	}
	engine, err := l.opts.Open(dir)
	if err != nil {
		return nil, err
	}
	m, err := fsm.New(engine)
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return m, nil
}

// Run commits proposals until ctx ends, then finishes those that wait and
// returns. It is called once.
func (l *Local) Run(ctx context.Context) error {
	if !l.start() {
		return nil
	}
	defer close(l.stopped)
	loops, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { l.expireLoop(loops) })
	wg.Go(func() { l.trimLoop(loops) })
	c := committer{local: l}
	for {
		select {
		case <-l.queue.ready:
			l.queue.linger()
			c.drain()
			continue
		case f := <-l.exclusive:
			f()
			continue
		case <-ctx.Done():
		case <-l.closing:
		}
		l.queue.close()
		c.drain()
		return nil
	}
}

// start tells whether Run may go on.
func (l *Local) start() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.running {
		return false
	}
	l.running = true
	l.become(Serving, nil, Starting)
	return true
}

// Close ends Run, if it runs, as well as a backup or a restore, and closes the
// state once its readers are done. Proposals that still wait are not applied. It
// is idempotent.
func (l *Local) Close() error {
	l.close.Do(func() { l.closeErr = l.shut() })
	return l.closeErr
}

func (l *Local) shut() error {
	l.mu.Lock()
	l.closed = true
	running := l.running
	close(l.closing)
	l.mu.Unlock()
	if running {
		<-l.stopped
	}
	// Nothing replaces the state, or starts a goroutine, from here on.
	l.swapping <- struct{}{}
	l.become(Closed, nil)
	<-l.swapping
	l.queue.close()
	c := committer{local: l}
	c.drain() // refuses what waited for a Run that never came
	l.background.Wait()
	return l.machine.Load().Close()
}

// Propose implements Replica.
func (l *Local) Propose(ctx context.Context, c *command.Command) (command.Result, error) {
	if err := ctx.Err(); err != nil {
		return command.Result{}, kv.Errorf(kv.Unavailable, "the mutation came too late: %w", err)
	}
	size := c.Size()
	if err := l.admit(c, size); err != nil {
		return command.Result{}, err
	}
	p := l.queue.proposal(c, size)
	if err := l.queue.push(p); err != nil {
		kind := kv.Unavailable
		if errors.Is(err, errQueueFull) {
			kind = kv.Exhausted
		}
		return command.Result{}, kv.Errorf(kind, "%w", err)
	}
	select {
	case <-p.done:
		return l.queue.settle(p)
	case <-ctx.Done():
		return l.giveUp(ctx, p)
	}
}

// giveUp ends a proposal whose caller does not wait any longer.
func (l *Local) giveUp(ctx context.Context, p *proposal) (command.Result, error) {
	if p.state.CompareAndSwap(queued, abandoned) {
		return command.Result{}, kv.Errorf(kv.Unavailable, "the mutation was still waiting: %w", ctx.Err())
	}
	select {
	case <-p.done: // it came to an end at the same time
		return l.queue.settle(p)
	default:
		return command.Result{}, kv.UnknownOutcome(kv.Unavailable,
			fmt.Errorf("the mutation was being written: %w", ctx.Err()))
	}
}

// admit refuses what cannot be written now.
func (l *Local) admit(c *command.Command, size int) error {
	if err := l.refusal(); err != nil {
		return err
	}
	if bytes, ops := fsm.BatchCost(c); !l.opts.BatchLimit.Allows(bytes, ops) {
		return kv.Errorf(kv.Invalid,
			"the request may take %d bytes and %d operations to write, and the %s engine writes at most %d and %d at once; split it",
			bytes, ops, l.machine.Load().EngineKind(), l.opts.BatchLimit.Bytes, l.opts.BatchLimit.Ops)
	}
	if c.Kind == command.SetPaused {
		return nil
	}
	if l.machine.Load().Paused() {
		return errPaused
	}
	if err := l.opts.Guard.Admit(size, frees(c)); err != nil {
		return kv.Errorf(kv.Exhausted, "%w", err)
	}
	return nil
}

var errPaused = kv.Errorf(kv.Precondition, "writes are paused; dkvctl -resumeWrites ends the pause")

// frees tells whether a command only removes keys.
func frees(c *command.Command) bool {
	for i := range c.Mutations {
		if !c.Mutations[i].Delete {
			return false
		}
	}
	return len(c.Mutations) > 0
}
