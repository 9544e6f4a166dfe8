package local

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
)

// proposal is one command on its way through the log.
type proposal struct {
	cmd  *command.Command
	size int
	turn state.Turn
	// state decides whether the caller or the committer ends a proposal, and its turn: as long
	// as it is queued, a caller that gives up may withdraw it. The committer ends the turn of
	// one that the caller does not wait for.
	state atomic.Int32
	done  chan struct{}
	// begun is when the committer took it.
	begun  time.Time
	result command.Result
	err    error
}

const (
	queued int32 = iota
	taken
	answered
	// withdrawn has not been taken and will not be. The caller of one that is left has given up
	// after it was taken.
	withdrawn
	left
)

// queue collects proposals while earlier ones are being written. The committer takes all of
// them at once, so that they share the next fsync.
type queue struct {
	mu      sync.Mutex
	waiting []*proposal
	spare   []*proposal
	closed  bool
	used    sync.Pool
	// ready holds a token while there is something to take.
	ready chan struct{}
}

// proposal returns a proposal, a used one if there is one.
func (q *queue) proposal(c *command.Command, size int, turn state.Turn) *proposal {
	p, _ := q.used.Get().(*proposal)
	if p == nil {
		p = &proposal{done: make(chan struct{}, 1)}
	}
	p.cmd, p.size, p.turn = c, size, turn
	p.state.Store(queued)
	return p
}

// answer gives the caller the result that p has, or ends the turn if it has left.
func (p *proposal) answer() {
	if p.state.CompareAndSwap(taken, answered) {
		p.done <- struct{}{}
		return
	}
	p.drop()
}

// drop ends the turn of a proposal whose caller has left, and forgets the command, since the
// queue may keep the proposal for long.
func (p *proposal) drop() {
	p.turn.End()
	p.cmd = nil
}

// settle ends the turn of a proposal that is done, returns the answer, and keeps the proposal for
// another command. One whose caller gave up is not used again: the committer may still hold it.
func (q *queue) settle(p *proposal) (command.Result, error) {
	p.turn.End()
	result, err := p.result, p.err
	p.cmd, p.turn, p.result, p.err = nil, state.Turn{}, command.Result{}, nil
	q.used.Put(p)
	if err != nil {
		return command.Result{}, err
	}
	return result, nil
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

func (q *queue) push(p *proposal) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return replica.ErrClosed
	}
	q.waiting = append(q.waiting, p)
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

// take returns all waiting proposals. The slice is valid until the next call.
func (q *queue) take() []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.waiting
	clear(q.spare)
	q.waiting, q.spare = q.spare[:0], out
	return out
}

// lingerRounds is how many times in a row linger yields without a new proposal before it
// returns.
const lingerRounds = 3

// linger lets requests that have arrived, and wait for a processor, push their proposals,
// so that they share the next fsync instead of waiting for the one after it. It costs a few
// hundred nanoseconds if there are none.
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

// close makes push fail from now on.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}
