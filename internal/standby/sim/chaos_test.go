package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/anishathalye/porcupine"
)

// chaos is how often what goes wrong in a run.
type chaos struct {
	drift, loss, late, double, dawdle float64
	lateness, dawdling                time.Duration
	// pause is the pause between faults, trouble how long one lasts.
	pause, trouble time.Duration
	// fallback is repl-ack-fallback: async.
	fallback bool
	// orders is how likely a fault is an operator's order to promote, outages that it is one of
	// all masters.
	orders, outages float64
	// apart has the clocks of the registry run as much faster as they may.
	apart bool
	// kind is what makes the masters useless in an outage; negative for any of the three.
	kind int
	// together is how likely slaves crash at the moment at which an outage begins, wiped how
	// likely one loses its disk just before, linger how likely an owner stands still before it
	// enters a standby into the record.
	together, wiped, linger float64
	// syncing is how long a slave takes at most to sync what it has received.
	syncing time.Duration
	// byHand is how likely a fault is an order to promote whose founder may be gone before its
	// claim is answered, so that its seals are ended by hand.
	byHand float64
	// sets has orders to promote be for both slaves.
	sets bool
	// former has a log get back a standing set that it had before, right before an outage. Only
	// then do masters look at what they have gained: nothing else is found by that here.
	former bool
}

// A climate makes one kind of misfortune likely.
type climate func(*chaos)

func registryOutages(c *chaos) {
	c.kind, c.outages, c.apart, c.drift, c.loss, c.late = 2, 0.7, true, 0.045, 0, 0
}

func crashesTogether(c *chaos) {
	c.kind, c.outages, c.orders, c.together, c.syncing = 0, 0.6, 0, 0.5, 100*ms
}

func wipedDisks(c *chaos) { c.kind, c.outages, c.orders, c.wiped = 0, 0.6, 0, 0.7 }

func lingeringOwners(c *chaos) { c.linger, c.outages, c.orders, c.fallback = 0.5, 0.2, 0, true }

func endedByHand(c *chaos) {
	c.byHand, c.orders, c.outages, c.late, c.dawdling, c.trouble = 0.8, 0, 0.1, 0, 10*ms, 50*ms
}

func formerSets(c *chaos) {
	c.former, c.fallback, c.outages, c.orders, c.kind, c.late, c.loss = true, true, 0.7, 0, 0, 0, 0
}

func promotedSets(c *chaos) { c.sets, c.orders = true, 0.3 }

// throwChaos returns the faults of a seed: some runs are rougher than others, since a fault
// is not found by a run that gets nowhere.
func throwChaos(rng *rand.Rand) chaos {
	n := func(d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }
	pick := func(of ...float64) float64 { return of[rng.IntN(len(of))] }
	return chaos{
		drift: pick(0, 0.045, 0.045), loss: pick(0, 0.02, 0.1), late: pick(0, 0.02, 0.1), double: pick(0, 0.05), dawdle: pick(0.002, 0.01, 0.03),
		lateness: n(300 * ms), dawdling: 10*ms + n(400*ms),
		pause: 100*ms + n(300*ms), trouble: 50*ms + n(500*ms),
		fallback: rng.IntN(2) == 0, orders: pick(0, 0, 0.3), outages: pick(0.2, 0.4, 0.6), apart: rng.IntN(2) == 0,
		kind: -1, syncing: 4 * ms,
	}
}

// length is how long a run lasts.
const length = 3 * time.Second

// simulate runs a seed without some of the rules, in a climate if it is not nil.
func simulate(seed uint64, without rules, in climate) *world {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &world{rng: rng, rules: without, chaos: throwChaos(rng), nodes: make(map[string]*node), cut: make(map[[2]string]time.Duration)}
	if in != nil {
		in(&w.chaos)
	}
	w.registry = newRegistry(w)
	first := &deployment{id: "first", history: "h"}
	for v := range first.logs {
		first.logs[v] = &log{}
	}
	for _, name := range []string{"m1", "m2", "m3"} {
		n := w.add(name)
		n.boot = n.bootMaster
		n.up, n.start = true, 1
		w.masters = append(w.masters, n)
	}
	w.found(first, w.masters...)
	for _, n := range w.masters {
		n.bootMaster()
	}
	for _, name := range []string{"s1", "s2"} {
		n := w.add(name)
		n.slave = &slave{disk: name + "-disk"}
		n.boot = n.bootSlave
		n.begin()
		w.slaves = append(w.slaves, n)
	}
	for range 6 {
		n := w.add("c" + string(rune('1'+len(w.nodes))))
		n.boot = func() { n.spawn(client) }
		n.begin()
	}
	w.after(100*ms, w.trouble)
	w.run(length)
	w.finish()
	return w
}

// trouble makes something go wrong, again and again.
func (w *world) trouble() {
	w.after(w.chaos.pause/2+w.upTo(w.chaos.pause), w.trouble)
	if w.chaos.byHand > 0 && w.chance(w.chaos.byHand) {
		w.slaves[w.rng.IntN(len(w.slaves))].slave.ordered = true
		return
	}
	if w.chaos.sets && w.chance(w.chaos.orders) {
		founder := w.slaves[w.rng.IntN(len(w.slaves))].slave
		founder.stalled = w.now + w.upTo(2*lasting)
		w.after(w.upTo(60*ms), func() { founder.ordered = true })
		return
	}
	if w.chance(w.chaos.orders) {
		w.slaves[w.rng.IntN(len(w.slaves))].slave.ordered = true
		for range w.rng.IntN(4) { // owners change meanwhile
			w.after(w.upTo(30*ms), func() {
				w.deployments[len(w.deployments)-1].elect(w, w.rng.IntN(vBuckets))
			})
		}
		return
	}
	if w.chance(w.chaos.wiped) {
		w.loseDisk(w.slaves[w.rng.IntN(len(w.slaves))])
		w.after(20*ms+w.upTo(80*ms), w.outage)
		return
	}
	if w.chance(w.chaos.outages) {
		w.outage()
		return
	}
	long := w.upTo(w.chaos.trouble)
	one := w.some()
	switch w.rng.IntN(9) {
	case 0, 1:
		one.frozen = max(one.frozen, w.now+long)
	case 2:
		w.crash(one, long)
	case 3:
		w.registry.elect()
	case 4, 5:
		d := w.deployments[w.rng.IntN(len(w.deployments))]
		d.elect(w, w.rng.IntN(vBuckets))
	case 6:
		w.sever(one, w.some(), long)
	case 7: // a node is alone, in one direction or both
		both := w.chance(0.5)
		for _, name := range w.names() {
			w.cut[[2]string{one.name, name}] = w.now + long
			if both {
				w.cut[[2]string{name, one.name}] = w.now + long
			}
		}
	case 8:
		w.loseDisk(w.slaves[w.rng.IntN(len(w.slaves))])
	}
}

// outage makes all masters of a deployment useless, perhaps after slaves were cut off from
// them, or from a new owner of one of their logs, for a while.
func (w *world) outage() {
	d := w.deployments[len(w.deployments)-1]
	ahead := time.Duration(0)
	if w.chaos.former {
		d.goBack(w, w.rng.IntN(vBuckets))
		ahead = 5*ms + w.upTo(25*ms)
		for _, n := range d.nodes {
			for _, s := range w.slaves {
				w.cut[[2]string{s.name, n.name}] = w.now + ahead + lasting
			}
		}
	} else if w.chance(0.6) {
		ahead = 10*ms + w.upTo(60*ms)
		if w.chance(0.5) {
			d.elect(w, w.rng.IntN(vBuckets))
		}
		for _, n := range d.nodes {
			for _, s := range w.slaves {
				w.sever(n, s, ahead+w.upTo(lasting))
			}
		}
	}
	for _, s := range w.slaves {
		if w.chance(w.chaos.together) {
			w.after(ahead, func() { w.crash(s, w.upTo(lasting/4)) })
			continue
		}
		switch w.rng.IntN(8) {
		case 0:
			w.after(w.upTo(2*ahead), func() { w.loseDisk(s) })
		case 1, 2:
			w.after(w.upTo(2*ahead), func() { w.crash(s, w.upTo(lasting)) })
		}
	}
	kind, long := w.rng.IntN(3), lasting*3/2+w.upTo(2*lasting)
	if w.chaos.kind >= 0 {
		kind = w.chaos.kind
	}
	w.after(ahead, func() {
		for _, n := range d.nodes {
			switch kind {
			case 0:
				w.crash(n, long)
			case 1:
				n.frozen = max(n.frozen, w.now+long)
			default:
				for _, r := range w.registry.nodes {
					w.cut[[2]string{n.name, r.name}] = w.now + long
				}
			}
		}
	})
}

func (w *world) names() []string {
	out := []string{"r1", "r2", "r3", "m1", "m2", "m3", "s1", "s2"}
	return out
}

// some returns a node that is no client.
func (w *world) some() *node {
	names := w.names()
	return w.nodes[names[w.rng.IntN(len(names))]]
}

// sever loses messages between two nodes, in one direction or both.
func (w *world) sever(a, b *node, d time.Duration) {
	way := w.rng.IntN(3)
	if way != 1 {
		w.cut[[2]string{a.name, b.name}] = w.now + d
	}
	if way != 2 {
		w.cut[[2]string{b.name, a.name}] = w.now + d
	}
}

// crash stops a node for a time. Logs that it owned get another owner, if there is one.
func (w *world) crash(n *node, d time.Duration) {
	if !n.up {
		return
	}
	n.kill()
	w.reached.Crashes++
	w.after(d, func() {
		n.begin()
		if n.master == nil {
			return
		}
		for v, l := range n.master.logs {
			if l.owner == n {
				n.master.deployment.elect(w, v)
			}
		}
	})
}

// loseDisk has a slave begin with an empty disk.
func (w *world) loseDisk(n *node) {
	if n.master != nil || n.slave.sealed != "" || w.chance(0.5) {
		return
	}
	w.crash(n, 0)
	n.slave = &slave{disk: n.name + "-disk-" + time.Duration(w.seq).String()}
	w.reached.LostDisks++
}

// op is what a client asks for.
type op struct {
	v     int
	write bool
	value int
}

// client asks the owners of logs for something, again and again.
func client(p *proc) {
	for {
		p.sleep(p.upTo(12 * ms))
		o := op{v: p.rng.IntN(vBuckets), write: p.chance(0.5)}
		began := p.now
		if o.write {
			p.seq++
			o.value = int(p.seq)
			at := len(p.history)
			p.history = append(p.history, porcupine.Operation{Input: o, Output: 0, Call: int64(began), Return: math.MaxInt64})
			if p.write(o) {
				p.history[at].Return = int64(p.now)
				p.reached.Writes++
			}
			continue
		}
		if value, ok := p.get(o); ok {
			p.history = append(p.history, porcupine.Operation{Input: o, Output: value, Call: int64(began), Return: int64(p.now)})
			p.reached.Reads++
		}
	}
}

// clientPatience is how long a client waits for one answer: longer than most outages, or less.
func (p *proc) clientPatience() time.Duration {
	if p.chance(0.3) {
		return 4 * lasting
	}
	return lasting
}

// target is where a client sends a request: it may not have heard of the newest masters.
func (p *proc) target(o op) *node {
	d := p.deployments[len(p.deployments)-1]
	if p.chance(0.4) {
		d = p.deployments[p.rng.IntN(len(p.deployments))]
	}
	if p.chance(0.1) {
		return d.nodes[p.rng.IntN(len(d.nodes))]
	}
	return d.logs[o.v].owner
}

// write puts a value, with one request id however often it is sent.
func (p *proc) write(o op) bool {
	for range 1 + p.rng.IntN(6) {
		_, err := call(p, p.target(o), p.clientPatience(), func(q *proc) (int, error) {
			return 0, q.process().put(q, o.v, entry{put: true, value: o.value, request: o.value})
		})
		if err == nil {
			return true
		}
		p.sleep(p.upTo(20 * ms))
	}
	return false
}

func (p *proc) get(o op) (int, bool) {
	probe := p.chance(0.3)
	value, err := call(p, p.target(o), p.clientPatience(), func(q *proc) (int, error) {
		if probe {
			return q.process().probe(q, o.v)
		}
		return q.process().read(q, o.v)
	})
	return value, err == nil
}

// finish reads what the newest masters have, and looks whether a request was applied twice.
func (w *world) finish() {
	last := w.deployments[len(w.deployments)-1]
	for _, d := range w.deployments {
		for _, l := range d.logs {
			seen := make(map[int]bool)
			for _, e := range l.entries {
				if e.put && seen[e.value] {
					w.wrong = "a request was applied twice"
				}
				seen[e.value] = seen[e.value] || e.put
			}
		}
	}
	w.lookAtRecord()
	for v, l := range last.logs {
		w.history = append(w.history, porcupine.Operation{Input: op{v: v}, Output: l.state().value, Call: int64(w.now) + 1, Return: int64(w.now) + 2})
	}
}
