package local

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

var errQueueFull = kv.Errorf(kv.Exhausted, "too many bytes of mutations are waiting; slow down and retry")

// proposal is one command on its way through the log.
type proposal struct {
	cmd  *command.Command
	size int
	// state decides who finishes with a proposal whose caller gives up: as long
	// as it is queued the caller may take it back.
	state atomic.Int32
	done  chan struct{}
	// begun is when the committing goroutine took it.
	begun  time.Time
	result command.Result
	err    error
}

const (
	queued int32 = iota
	taken
	abandoned
)

// queue collects proposals while the one before them is being written. The
// committing goroutine takes all that are there at once: whoever waits for the
// disk shares its next fsync.
type queue struct {
	mu      sync.Mutex
	waiting []*proposal
	spare   []*proposal
	bytes   int
	closed  bool
	used    sync.Pool
	// ready holds a token while there is something to take.
	ready chan struct{}
}

// proposal returns a proposal, one that was used before where there is one.
func (q *queue) proposal(c *command.Command, size int) *proposal {
	p, _ := q.used.Get().(*proposal)
	if p == nil {
		p = &proposal{done: make(chan struct{}, 1)}
	}
	p.cmd, p.size = c, size
	p.state.Store(queued)
	return p
}

// settle takes the answer out of a proposal that is done, and the proposal back.
// One whose caller gave up never comes here: the committing goroutine may still
// hold it.
func (q *queue) settle(p *proposal) (command.Result, error) {
	result, err := p.result, p.err
	p.cmd, p.result, p.err = nil, command.Result{}, nil
	q.used.Put(p)
	if err != nil {
		return command.Result{}, err
	}
	return result, nil
}

// maxQueued bounds the memory of waiting mutations.
const maxQueued = 128 << 20

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

func (q *queue) push(p *proposal) error {
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return replica.ErrClosed
	case q.bytes+p.size > maxQueued && len(q.waiting) > 0:
		q.mu.Unlock()
		return errQueueFull
	}
	q.waiting = append(q.waiting, p)
	q.bytes += p.size
	first := len(q.waiting) == 1
	q.mu.Unlock()
	if first {
		q.wake()
	}
	return nil
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns everything that waits. The slice is valid until the next call.
func (q *queue) take() []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.waiting
	clear(q.spare)
	q.waiting, q.spare, q.bytes = q.spare[:0], out, 0
	return out
}

// lingerRounds is how often in a row linger yields for nothing.
const lingerRounds = 3

// linger lets those push who are about to: on a busy machine the requests that
// have arrived wait for a processor, and whoever is behind the next fsync has to
// wait for the one after it. Where nobody is about to, it costs a few hundred
// nanoseconds.
func (q *queue) linger() {
	n := q.len()
	for idle := 0; idle < lingerRounds && n < maxGroupCommands; {
		runtime.Gosched()
		now := q.len()
		if now == n {
			idle++
		} else {
			idle = 0
		}
		n = now
	}
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// close makes push fail from here on.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}
