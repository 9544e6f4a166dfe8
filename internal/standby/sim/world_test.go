package sim

import (
	"container/heap"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

const ms = time.Millisecond

// world is one run: everything in it happens one after the other, in the order of the
// moments that the seed has thrown. Nothing in it runs at the same time as anything else.
type world struct {
	rng   *rand.Rand
	now   time.Duration
	seq   uint64
	queue events
	rules rules
	chaos chaos

	nodes    map[string]*node
	masters  []*node
	slaves   []*node
	registry *registry
	// deployments are those that were founded, by the time of their founding.
	deployments []*deployment
	// cut are the directions in which messages are lost, until when.
	cut map[[2]string]time.Duration

	// entered is when an owner last asked to have a standby entered into the record.
	entered time.Duration
	// wentBack counts the standing sets that went back.
	wentBack int

	history []porcupine.Operation
	reached reached
	byHand  byHand
	sets    sets
	// wrong is what a check inside has found.
	wrong string
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + d, w.seq, do})
}

func (w *world) run(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= until && w.wrong == "" {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = until
	for _, n := range w.nodes {
		n.kill()
	}
}

// chance reports whether something of a probability happens.
func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// upTo returns a duration of at most d.
func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d) + 1)) }

// node is a machine with a clock of its own. What is in memory ends with its process.
type node struct {
	*world
	name   string
	rate   float64
	up     bool
	start  int
	frozen time.Duration
	procs  []*proc
	// boot starts what the node does.
	boot func()

	// registryNow is the process of a node of the registry, of the start registryAt.
	registryNow *office
	registryAt  int
	// master is a master's part, slave a slave's; a slave that was promoted has both.
	master *master
	slave  *slave
}

func (w *world) add(name string) *node {
	n := &node{world: w, name: name, rate: 1 + (w.rng.Float64()*2-1)*w.chaos.drift}
	if w.chaos.apart { // the worst that is allowed: what waits is fast, what must not be late slow
		n.rate = 1 - w.chaos.drift
		if name[0] == 'r' {
			n.rate = 1 + w.chaos.drift
		}
	}
	w.nodes[name] = n
	return n
}

// clock is the node's, which measures leases.
func (n *node) clock() time.Duration { return time.Duration(float64(n.now)*n.rate) + time.Hour }

func (n *node) begin() {
	n.up, n.start = true, n.start+1
	n.boot()
}

// kill ends the node's process.
func (n *node) kill() {
	n.up = false
	procs := n.procs
	n.procs = nil
	for _, p := range procs {
		if !p.dead {
			p.dead = true
			p.stop()
		}
	}
}

// proc is a thread of a node's process. It can stand still at each step, and ends at one.
type proc struct {
	*node
	next  func() (time.Duration, bool)
	stop  func()
	yield func(time.Duration) bool
	dead  bool
	// turn is the number of its sleep: what is to end an earlier one has no effect.
	turn int
}

var errKilled = errors.New("killed")

// spawn starts a thread.
func (n *node) spawn(body func(*proc)) {
	p := &proc{node: n}
	p.next, p.stop = iter.Pull(func(yield func(time.Duration) bool) {
		p.yield = yield
		defer func() {
			if r := recover(); r != nil && r != errKilled {
				panic(r)
			}
		}()
		body(p)
	})
	n.procs = append(n.procs, p)
	p.wake(0)
}

// wake ends the thread's sleep after a time, instead of when it was to end.
func (p *proc) wake(d time.Duration) {
	p.turn++
	turn := p.turn
	p.after(d, func() {
		if p.turn == turn {
			p.resume()
		}
	})
}

func (p *proc) resume() {
	switch {
	case p.dead:
	case p.now < p.frozen:
		p.wake(p.frozen - p.now)
	default:
		if d, more := p.next(); more {
			p.wake(d)
			return
		}
		p.dead = true
		p.procs = slices.DeleteFunc(p.procs, func(other *proc) bool { return other == p })
	}
}

// sleep lets time pass.
func (p *proc) sleep(d time.Duration) {
	if !p.yield(d) {
		panic(errKilled)
	}
}

// step is a place at which the thread may stand still.
func (p *proc) step() {
	d := p.upTo(100 * time.Microsecond)
	if p.chance(p.chaos.dawdle) {
		d = p.upTo(p.chaos.dawdling)
	}
	p.sleep(d)
}

// until waits for something, for a time at most.
func (p *proc) until(limit time.Duration, what func() bool) bool {
	for end := p.now + limit; !what(); {
		if p.now >= end {
			return false
		}
		p.sleep(ms + p.upTo(ms))
	}
	return true
}

// send delivers a message, perhaps later, twice or never.
func (w *world) send(from, to *node, deliver func()) {
	for {
		if w.now >= w.cut[[2]string{from.name, to.name}] && !w.chance(w.chaos.loss) {
			d := 50*time.Microsecond + w.upTo(400*time.Microsecond)
			if w.chance(w.chaos.late) {
				d += w.upTo(w.chaos.lateness)
			}
			w.after(d, func() {
				if to.up {
					deliver()
				}
			})
		}
		if !w.chance(w.chaos.double) {
			return
		}
	}
}

var errTimeout = errors.New("no answer")

// call makes a call of another node.
func call[T any](p *proc, to *node, limit time.Duration, serve func(*proc) (T, error)) (out T, err error) {
	done := false
	p.send(p.node, to, func() {
		to.spawn(func(q *proc) {
			res, failed := serve(q)
			q.send(to, p.node, func() {
				if !done {
					out, err, done = res, failed, true
					p.wake(0)
				}
			})
		})
	})
	if !p.until(limit, func() bool { return done }) {
		done = true
		return out, errTimeout
	}
	return out, err
}
