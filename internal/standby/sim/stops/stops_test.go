// Package stops runs the second fence of a promotion: masters of which a majority stops for good.
// DESIGN.md of package standby has its rules (S1 to S7); TestRules takes them away. A run is a
// Raft group, a founder that stops its members, messages that are lost, late and doubled, members
// that come and go, and crashes between any two steps, in the order that a seed throws.
package stops

import (
	"flag"
	"math/rand/v2"
	"reflect"
	"testing"
)

var (
	seedFlag = flag.Uint64("stops.seed", 0, "run only this seed")
	runsFlag = flag.Uint64("stops.runs", 300, "how many seeds TestNothingIsLost runs in each climate")
	mostFlag = flag.Uint64("stops.most", 20_000, "how many seeds TestRules may need to find a rule missing")
)

const (
	eps   = 0.10
	steps = 1500
)

// climate makes one kind of misfortune likely.
type climate struct {
	// lasting is the lease of the log, trust for how long the process that has stopped the nodes
	// need not ask them again.
	lasting, trust float64
	// apart has the clocks run as far apart as they may.
	apart bool
	// moving is how often in a thousand steps a change of the membership is proposed, lagging how
	// much more seldom a follower applies, byHand how often stops end by hand. givingUp is how often
	// in a hundred decisions the promotion is given up instead, as if another node of a set failed.
	moving, lagging, byHand, givingUp int
}

var (
	mixed = climate{lasting: 20, trust: 150, moving: 10, lagging: 1, byHand: 4}
	// fastFounder has a founder with a fast clock and owners with slow ones.
	fastFounder = climate{lasting: 200, trust: 400, apart: true, moving: 0, lagging: 1, byHand: 0}
	// members come and go, and their nodes lag.
	changing = climate{lasting: 5, trust: 150, moving: 95, lagging: 40, byHand: 0}
	// abandoned stops are ended by hand.
	abandoned = climate{lasting: 40, trust: 50, moving: 0, lagging: 1, byHand: 30}
	// promotions are given up at the last moment, and begun again.
	retried = climate{lasting: 5, trust: 150, moving: 0, lagging: 1, byHand: 0, givingUp: 80}
)

// rules are those that a run does without.
type rules uint64

func (r rules) has(one rules) bool { return r&one != 0 }

const (
	answerFirst        rules = 1 << iota // a node answers before its stop is durable
	forgetAtStart                        // a stopped node that starts takes part again
	stoppedAcknowledge                   // it acknowledges entries and heartbeats
	stoppedRead                          // it reads under its lease; the wait keeps that out too
	minority                             // any node that stops will do
	anyList                              // a majority of any list of members will do
	anyNode                              // nodes without a vote count
	appliedVoters                        // changes of the membership that wait to be applied do not count
	longestLog                           // the end is that of the longest log
	foundersEnd                          // the end is what is known to be committed
	noWait                               // nothing waits for the lease
	noDrift                              // the wait does not allow for clocks
	noQuestion                           // the founder does not ask whether the stops have held
	endEarly                             // a stop ends by hand while its founder counts on it
	forgetEnded                          // a stop that has ended is forgotten, and has no token
	anyCopy                              // a copy that is long enough is not compared with the best log
)

// reached counts what runs came across.
type reached struct {
	Leaders, Leases, Reads, Crashes, Shown, Changed, Stopped, Decided, GivenUp, ByHand, Found, Lent, Parted uint64
}

// world is one run.
type world struct {
	rng     *rand.Rand
	rules   rules
	now     float64
	nodes   []*node // by id, from 1
	climate climate
	founder founder
	flight  []func()
	// cut are the nodes that reach no other one, and all of them if apart. The founder reaches
	// those of the latter.
	cut   map[int]bool
	apart bool

	ids, tokens, promotions int
	// told are the entries that a client was shown, by index.
	told    map[int]int
	ended   []int
	reached reached
	wrong   string
}

func (w *world) ids1() (out []int) {
	for _, n := range w.nodes[1:] {
		out = append(out, n.id)
	}
	return out
}

// send delivers a message later, twice or never; nil is the founder.
func (w *world) send(from, to *node, deliver func()) {
	for _, n := range []*node{from, to} {
		if n != nil && w.cut[n.id] {
			return
		}
	}
	if from != nil && to != nil && from != to && w.apart || w.rng.IntN(20) == 0 {
		return
	}
	w.flight = append(w.flight, deliver)
	if w.rng.IntN(20) == 0 {
		w.flight = append(w.flight, deliver)
	}
}

// deliver delivers one of the messages that are under way; the oldest more often.
func (w *world) deliver() {
	if len(w.flight) == 0 {
		return
	}
	i := 0
	if w.rng.IntN(3) == 0 {
		i = w.rng.IntN(len(w.flight))
	}
	do := w.flight[i]
	w.flight = append(w.flight[:i:i], w.flight[i+1:]...)
	do()
}

// shown notes that clients were shown the state after an entry.
func (n *node) shown(index int) {
	for at := index; at > 0; at-- {
		if _, known := n.told[at]; known {
			break
		}
		n.told[at] = n.log[at-1].id
	}
	n.reached.Shown++
	if n.founder.decided {
		n.check()
	}
}

// check looks whether the new masters have all that was shown.
func (w *world) check() {
	for at, id := range w.told {
		if at > len(w.founder.kept) || w.founder.kept[at-1].id != id {
			w.wrong = "what was shown is lost"
		}
	}
}

// simulate runs a seed without some of the rules.
func simulate(seed uint64, without rules, in climate) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 11)), rules: without, climate: in, cut: map[int]bool{}, told: map[int]int{}}
	drift := 0.0
	if in.apart || w.rng.IntN(2) == 0 {
		drift = 0.047
	}
	w.nodes = []*node{nil}
	for id := 1; id <= 5; id++ {
		n := &node{world: w, id: id, rate: 1 + (2*w.rng.Float64()-1)*drift}
		if in.apart || w.rng.IntN(2) == 0 {
			n.rate = 1 - drift
		}
		w.nodes = append(w.nodes, n)
		n.begin()
	}
	w.founder.rate = 1 + drift
	calm := 100 + w.rng.IntN(steps/2)
	if in.apart {
		calm = 150
	}
	for step := 0; step < steps && w.wrong == ""; step++ {
		w.step(step > calm)
	}
	w.finish()
	return w
}

// step does one thing.
func (w *world) step(trouble bool) {
	w.now += w.rng.Float64() / 2
	n := w.nodes[1+w.rng.IntN(len(w.nodes)-1)]
	switch p := w.rng.IntN(1000); {
	case p < 450:
		w.deliver()
	case p < 590:
		for _, to := range w.nodes[1:] {
			n.replicate(to)
		}
	case p < 640:
		n.propose(nil)
	case p < 740:
		if n.leads || w.rng.IntN(w.climate.lagging) == 0 {
			n.apply()
		}
		w.follow(n)
	case p < 770:
		for _, reader := range w.nodes[1:] {
			reader.read()
		}
	case p < 790:
		if !w.led() || w.rng.IntN(4) == 0 {
			n.campaign()
		}
	case p < 790+w.climate.moving:
		n.change()
	case p < 890:
		if w.rng.IntN(8) == 0 {
			w.misfortune(n)
		}
	case trouble:
		w.promote(n)
	}
}

func (w *world) led() bool {
	for _, n := range w.nodes[1:] {
		if n.takesPart() && n.leads {
			return true
		}
	}
	return false
}

// misfortune has something go wrong, or be well again.
func (w *world) misfortune(n *node) {
	switch w.rng.IntN(6) {
	case 0:
		n.crash()
	case 1, 2:
		for _, o := range w.nodes[1:] {
			o.begin()
		}
	case 3:
		for _, o := range w.nodes[1:] {
			if o.leads && w.climate.apart {
				n = o // the one with the lease
			}
		}
		w.cut[n.id] = true
	case 4:
		w.cut = map[int]bool{}
		w.apart = false
	case 5:
		w.apart = w.rng.IntN(2) == 0
	}
}

// promote does something for the promotion.
func (w *world) promote(n *node) {
	switch p := w.rng.IntN(100); {
	case p < 8:
		w.ask()
	case p < 70:
		w.decide()
	case p < 72 && w.founder.last == 0:
		w.giveUp()
	case p < 85:
		w.release()
	case p < 88:
		w.founder.process = false // it was started again
	case p < 88+w.climate.byHand/3:
		w.endByHand(n)
	}
}

// finish looks whether a promotion that was given up has left a node stopped.
func (w *world) finish() {
	for _, n := range w.nodes[1:] {
		for _, promotion := range w.ended {
			if n.stop.holds() && n.stop.promotion == promotion && w.wrong == "" {
				w.wrong = "a node is stopped by a promotion that was given up"
			}
		}
	}
}

// TestNothingIsLost runs all rules.
func TestNothingIsLost(t *testing.T) {
	var sum reached
	for _, in := range []climate{mixed, fastFounder, changing, abandoned, retried} {
		for seed := uint64(1); seed <= *runsFlag; seed++ {
			if *seedFlag != 0 && seed != *seedFlag {
				continue
			}
			w := simulate(seed, 0, in)
			if w.wrong != "" {
				t.Fatalf("%+v, seed %d (-stops.seed): %s: %+v", in, seed, w.wrong, w.reached)
			}
			to, from := reflect.ValueOf(&sum).Elem(), reflect.ValueOf(w.reached)
			for i := range to.NumField() {
				to.Field(i).SetUint(to.Field(i).Uint() + from.Field(i).Uint())
			}
		}
	}
	t.Logf("%+v", sum)
	counts := reflect.ValueOf(sum)
	for i := range counts.NumField() {
		if counts.Field(i).Uint() == 0 && *seedFlag == 0 {
			t.Errorf("%s: none was reached", counts.Type().Field(i).Name)
		}
	}
}

// TestRules takes one rule away at a time, and wants to see what it is there for.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		name string
		rule rules
		in   climate
	}{
		{"S1: answered before it is durable", answerFirst, mixed},
		{"S1: forgotten at a start", forgetAtStart, mixed},
		{"S2: a stopped node acknowledges", stoppedAcknowledge, mixed},
		{"S3: a minority", minority, mixed},
		{"S3: any list of members", anyList, changing},
		{"S3: nodes without a vote", anyNode, mixed},
		{"S3: changes that are not applied", appliedVoters, changing},
		{"S4: the longest log", longestLog, mixed},
		{"S4: what is known to be committed", foundersEnd, mixed},
		{"S4: a copy that is long enough", anyCopy, retried},
		{"S5: no wait", noWait | stoppedRead, mixed},
		{"S5: no allowance for drift", noDrift, fastFounder},
		{"S6: not asked again", noQuestion, abandoned},
		{"S6: ended early by hand", endEarly, abandoned},
		{"S7: what has ended is forgotten", forgetEnded, mixed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= *mostFlag; seed++ {
				if w := simulate(seed, c.rule, c.in); w.wrong != "" {
					t.Logf("%s: seed %d: %s", c.name, seed, w.wrong)
					return
				}
			}
			t.Errorf("%s: %d seeds have not found it", c.name, *mostFlag)
		})
	}
}
