package lease

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
)

// simOptions says what is different from the real thing.
type simOptions struct {
	breaches breaches
	machine  machineRules
	// hideUntold has an owner hide what has expired by its own clock, without a Tick that
	// says so to the others.
	hideUntold bool
	// understated has BEGIN say half of the lease that its proposer takes.
	understated bool
	// suspendedClock stands still while its process is paused.
	suspendedClock bool
	// jumpWhileWaiting lets clocks leap during a takeover.
	jumpWhileWaiting bool
}

// reached counts what a run came across.

type reached struct {
	Runs, Operations, Elections, ForwardedReads, FencedEntries, FencedWrites, UnknownWrites, Writes uint64
	WaitOuts, Activations, LeaseReads, ConfirmedReads, Fallbacks, VoidViews                         uint64
	StaleLeaders, HandOvers, Transfers, Pauses, Restarts, Partitions, Jumps                         uint64
	Reconfigurations, LongerEarlier, Retries, RepeatedEntries, HiddenReads, Ticks, WallJumps        uint64
}

// world is one run: nodes, network, clocks, clients, and what goes wrong.
type world struct {
	t       *testing.T
	o       simOptions
	climate *profile
	start   time.Time
	mixed   bool // the nodes' leases differ in length
	ctx     context.Context
	tasks   sync.WaitGroup

	mu      sync.Mutex
	rng     *rand.Rand
	nodes   []*simNode
	cut     [][]bool
	loss    float64
	slow    bool
	lazy    int // the node that applies late; -1: none
	over    bool
	ticks   int64
	values  int
	request uint64
	history []porcupine.Operation
	reached reached
}

// simNode is a machine; its process comes and goes.
type simNode struct {
	w    *world
	raft *simRaft
	// life counts the processes so far.
	life   int
	down   bool
	paused time.Time // until when; zero: not
	keeper *Keeper
	kill   context.CancelFunc
	ended  chan struct{}

	rate float64
	skew time.Duration
	// length is how long its leases last.
	length time.Duration
	// offset is how wrong its wall clock is; shown is the latest that its process has
	// gone by.
	offset, shown time.Duration
}

// wall is what the node takes for the time of day.
func (n *simNode) wall() time.Duration { return time.Since(n.w.start) + time.Hour + n.offset }

// simulate runs one seed in one of the climates and returns its history and what it reached.
func simulate(t *testing.T, seed uint64, climate int, o simOptions) ([]porcupine.Operation, reached) {
	w := &world{t: t, o: o, lazy: -1, climate: &climates[climate], rng: rand.New(rand.NewPCG(seed, uint64(climate)))}
	synctest.Test(t, func(*testing.T) { w.run() })
	return w.history, w.reached
}

func (w *world) run() {
	w.start = time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	w.ctx = ctx
	w.mu.Lock()
	n := 3
	if w.chance(0.1) {
		n = 5
	}
	w.cut = make([][]bool, n)
	// Some clusters have no leases.
	none := w.chance(0.1)
	w.mixed = !none && w.chance(w.climate.mixed)
	for i := range n {
		w.cut[i] = make([]bool, n)
		edge := math.Sqrt(1 + w.climate.drift)
		rate := []float64{1 / edge, edge, 1/edge + w.rng.Float64()*(edge-1/edge)}[w.rng.IntN(3)]
		node := &simNode{w: w, rate: rate, skew: w.between(time.Hour, 2*time.Hour)}
		node.offset = w.between(-w.climate.skew, w.climate.skew)
		if !none {
			node.length = w.drawLength()
		}
		node.raft = &simRaft{w: w, id: i, voted: -1, log: make([]simEntry, 1)}
		w.nodes = append(w.nodes, node)
	}
	for i := range w.nodes {
		w.boot(i)
	}
	w.mu.Unlock()
	for i := range w.nodes {
		// One that waits for its writes must not keep the others from reading.
		some := w.climate.writes
		if some == 0 {
			some = 0.7
		}
		for _, writes := range []float64{some, 0, 0} {
			w.tasks.Go(func() { w.client(ctx, i, writes) })
		}
	}
	w.tasks.Go(func() { w.chaos(ctx) })
	time.Sleep(1600 * time.Millisecond)
	cancel()
	w.tasks.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	for _, node := range w.nodes {
		w.stop(node)
	}
}

// drawLength is how long a process's leases are to last; mu is held.
func (w *world) drawLength() time.Duration {
	if !w.mixed {
		return w.climate.lease
	}
	return []time.Duration{0, w.climate.lease / 4, w.climate.lease, w.climate.lease}[w.rng.IntN(4)]
}

// boot starts a process on node i; mu is held.
func (w *world) boot(i int) {
	n := w.nodes[i]
	n.life++
	n.down, n.paused, n.shown = false, time.Time{}, 0
	n.raft.start()
	ctx, kill := context.WithCancel(context.Background())
	if w.mixed && n.life > 1 && w.chance(0.5) {
		n.length = w.drawLength() // it is started with other settings
		w.reached.Reconfigurations++
	}
	p := &port{w: w, n: n, life: n.life}
	k := New(p, Options{
		Length: n.length, Nonce: w.rng.Uint64(), Clock: p, Drift: w.climate.drift, Poll: 25 * time.Millisecond,
		Timeout: w.between(20*time.Millisecond, 250*time.Millisecond), breaches: w.o.breaches,
	})
	ended := make(chan struct{})
	n.keeper, n.kill, n.ended = k, kill, ended
	go func() {
		defer close(ended)
		_ = k.Run(ctx)
		s := k.Stats()
		w.mu.Lock()
		defer w.mu.Unlock()
		c := &w.reached
		c.WaitOuts += s.WaitOuts
		c.Activations += s.Activations
		c.LeaseReads += s.LeaseReads
		c.ConfirmedReads += s.Confirmed
		c.Fallbacks += s.Fallbacks
	}()
}

// stop ends node n's process and waits for its goroutines; mu is held, and
// released meanwhile.
func (w *world) stop(n *simNode) {
	n.down = true
	n.kill()
	ended := n.ended
	w.mu.Unlock()
	<-ended
	w.mu.Lock()
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(max(1, int64(high-low)))) + 1
}

// after runs f under mu, d from now.
func (w *world) after(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.over {
			f()
		}
	})
}

// onNode runs f on node i, d from now, unless its process has ended by then. A
// paused process runs it when it wakes.
func (w *world) onNode(i int, d time.Duration, f func()) {
	n := w.nodes[i]
	life := n.life
	var fire func()
	fire = func() {
		if n.life != life || n.down {
			return
		}
		if left := time.Until(n.paused); left > 0 {
			w.after(left+w.between(0, time.Millisecond), fire)
			return
		}
		f()
	}
	w.after(d, fire)
}

// send delivers m, or does not.
func (w *world) send(from, to int, m simMessage) {
	if w.cut[from][to] || w.chance(w.loss) {
		return
	}
	delay := w.between(200*time.Microsecond, 3*time.Millisecond)
	if w.slow || w.chance(0.01) {
		delay += w.between(0, 70*time.Millisecond)
	}
	w.onNode(to, delay, func() { w.nodes[to].raft.receive(from, m) })
}

func (w *world) applyDelay(i int) time.Duration {
	if i == w.lazy {
		return w.between(20*time.Millisecond, 80*time.Millisecond)
	}
	if w.chance(w.climate.lateApply) {
		return w.between(10*time.Millisecond, 60*time.Millisecond)
	}
	return w.between(0, 2*time.Millisecond)
}

// tick is a moment in the history's own time.
func (w *world) tick() int64 {
	w.ticks++
	return w.ticks
}
