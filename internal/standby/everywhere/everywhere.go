// Package everywhere has answers at ack level all wait until every node that keeps a copy of a
// log has applied them: the voting masters and the listed slaves, but for those that the log
// marks as down. It asks them only while an answer waits, so that other levels cost nothing.
package everywhere

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/sleep"
)

// Position is how far a node has applied the log.
type Position struct {
	// History is what the index belongs to.
	History string
	Applied kv.Index
}

// Options are what a log is and who has it. All are required.
type Options struct {
	// Roster returns the addresses of the other nodes that keep the log, whether they are
	// up or not: the voting masters and the listed slaves.
	Roster func(context.Context) ([]string, error)
	// Ask returns how far a node is, once it has applied an index or a moment has passed.
	Ask func(ctx context.Context, address string, index kv.Index) (Position, error)
	// History is the id of the log's own history.
	History func() string
	// Down returns the addresses that the log marks as down.
	Down func() []string
}

// Log is what the other nodes have applied of one vBucket's log, as far as answers need it.
type Log struct {
	opts Options
	// changed is raised when a node has applied more, has failed, or is marked otherwise.
	changed signal.Signal

	mu    sync.Mutex
	nodes map[string]*node
	// roster is the last one; nil before the first.
	roster []string
	closed bool
	// ended ends what is asked when the log is closed; asking counts it.
	ended  context.Context
	end    context.CancelFunc
	asking sync.WaitGroup
}

// node is what is known of one address.
type node struct {
	at Position
	// err is why it could not be asked; nil after an answer.
	err error
	// needed is the greatest index that an answer has waited for, since is when it was
	// waited for first or when the node last applied more; it moves on while no answer waits,
	// from left on.
	needed      kv.Index
	since, left time.Time
	// waiting is how many answers wait for it, asked whether a goroutine asks it.
	waiting int
	asked   bool
	// looked is when Returned last had it asked, heard when it last answered.
	looked, heard time.Time
}

// New makes the log of a vBucket.
func New(opts Options) *Log {
	l := &Log{opts: opts, nodes: make(map[string]*node)}
	l.ended, l.end = context.WithCancel(context.Background())
	return l
}

// Close ends what is asked. Answers that wait go on until their contexts end. It is idempotent.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end()
	l.asking.Wait()
}

// Marked notes that the log may mark other nodes as down than before.
func (l *Log) Marked() { l.changed.Raise() }

// Await returns once every node that is not marked as down has applied an index.
func (l *Log) Await(ctx context.Context, index kv.Index) error {
	roster, err := l.opts.Roster(ctx)
	if err != nil {
		return err
	}
	defer l.enter(roster)()
	for {
		changed := l.changed.Changed()
		missing := l.missing(roster, index)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return l.lacking(missing, index, context.Cause(ctx))
		}
	}
}

// enter notes that an answer waits for the nodes of a roster; leave ends that.
func (l *Log) enter(roster []string) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roster = roster
	l.forget()
	for _, address := range roster {
		n := l.node(address)
		if n.waiting == 0 {
			n.since = n.since.Add(time.Since(n.left)) // it was not asked meanwhile
		}
		n.waiting++
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, address := range roster {
			n := l.nodes[address]
			if n.waiting--; n.waiting == 0 {
				n.left = time.Now()
			}
		}
	}
}

// forget drops nodes that keep the log no more. l.mu is held.
func (l *Log) forget() {
	maps.DeleteFunc(l.nodes, func(address string, n *node) bool {
		return n.waiting == 0 && !n.asked && !slices.Contains(l.roster, address)
	})
}

// node returns what is known of an address. l.mu is held.
func (l *Log) node(address string) *node {
	n := l.nodes[address]
	if n == nil {
		n = new(node)
		l.nodes[address] = n
	}
	return n
}

// missing returns those of a roster that have not applied an index, and has them asked.
func (l *Log) missing(roster []string, index kv.Index) (out []string) {
	down, history, now := l.opts.Down(), l.opts.History(), time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, address := range roster {
		n := l.nodes[address]
		if slices.Contains(down, address) || n.applied(history) >= index {
			continue
		}
		if n.applied(history) >= n.needed {
			n.begin(now) // it lacked nothing before
		}
		n.needed = max(n.needed, index)
		out = append(out, address)
		l.ask(address, n)
	}
	return out
}

// begin has the node's silence count from now on, whether an answer waits for it or not.
func (n *node) begin(now time.Time) { n.since, n.left = now, now }

// applied is the index of a history that the node has applied.
func (n *node) applied(history string) kv.Index {
	if n.at.History != history {
		return 0
	}
	return n.at.Applied
}

// fruitlessPause is the pause before a node that has applied no more, or could not be asked, is
// asked again.
const fruitlessPause = 50 * time.Millisecond

// ask has a node asked for as long as an answer waits for it. l.mu is held.
func (l *Log) ask(address string, n *node) {
	if n.asked || l.closed {
		return
	}
	n.asked = true
	l.asking.Go(func() {
		for {
			index, wanted := l.next(n)
			if !wanted {
				return
			}
			at, err := l.opts.Ask(l.ended, address, index)
			if !l.answered(n, at, err) {
				sleep.For(l.ended, fruitlessPause)
			}
		}
	})
}

// next returns the index to ask a node for: anything above what it has applied may be what an
// answer waits for.
func (l *Log) next(n *node) (index kv.Index, wanted bool) {
	history := l.opts.History()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.waiting == 0 || n.applied(history) >= n.needed || l.closed {
		n.asked = false
		return 0, false
	}
	return n.applied(history) + 1, true
}

// answered notes what a node has answered, and reports whether it has applied more.
func (l *Log) answered(n *node, at Position, err error) (more bool) {
	history := l.opts.History()
	l.mu.Lock()
	if n.err = err; err == nil {
		now := time.Now()
		n.heard = now
		if at.History != n.at.History || at.Applied > n.at.Applied {
			n.at = at
			if more = n.applied(history) > 0; more {
				n.begin(now)
			}
		}
	}
	l.mu.Unlock()
	l.changed.Raise()
	return more
}
