package stops

import (
	"slices"
)

// stop is what a stopped node has on disk.
type stop struct {
	promotion, token int
	// ended: the promotion was given up, and the node takes part again.
	ended bool
	// at is when it was stopped, by its clock.
	at float64
}

func (s stop) holds() bool { return s.promotion != 0 && !s.ended }

// report is what a stopped node answers.
type report struct {
	node, token int
	log         []entry
	// configs are the voters as applied, and after each change behind that.
	configs [][]int
}

// founder is the node that replaces the group.
type founder struct {
	promotion int
	rate      float64
	// process reports whether the process that has stopped the nodes is still the one that runs.
	process bool
	began   float64
	reports map[int]report
	// last is when the last of the answers came that make the fence; 0 for none.
	last float64
	// releasing are the nodes that have not acknowledged yet that the promotion is given up.
	releasing []int
	decided   bool
	kept      []entry
	// copy is what the slave has of the log. It follows the group, and once the end of the best log
	// is lent to it, which is caught, it is sealed until the promotion is given up.
	copy   []entry
	caught bool
}

func (w *world) founderClock() float64 { return w.now * w.founder.rate }

// ask asks all nodes to stop.
func (w *world) ask() {
	f := &w.founder
	if f.decided || len(f.releasing) > 0 {
		return
	}
	if f.promotion == 0 {
		w.promotions++
		f.promotion, f.reports, f.last, f.process, f.began = w.promotions, map[int]report{}, 0, true, w.founderClock()
	}
	promotion := f.promotion
	for _, n := range w.nodes[1:] {
		w.send(nil, n, func() {
			r, ok := n.stopFor(promotion)
			if !ok {
				return
			}
			w.send(n, nil, func() { w.answered(promotion, r) })
		})
	}
}

// stopFor stops a node for a promotion, and returns its report.
func (n *node) stopFor(promotion int) (report, bool) {
	switch {
	case !n.up || n.stopped() && max(n.stop.promotion, n.doomed.promotion) != promotion:
		return report{}, false
	case n.stop.promotion == promotion && n.stop.ended && !n.rules.has(forgetEnded):
		return report{}, false // it is late
	case !n.stopped():
		n.tokens++
		s := stop{promotion: promotion, token: n.tokens, at: n.clock()}
		if n.rules.has(answerFirst) && n.rng.IntN(2) == 0 {
			n.doomed = s
		} else {
			n.stop = s
		}
		if !n.rules.has(stoppedRead) {
			n.leads = false
		}
		n.reached.Stopped++
	}
	r := report{node: n.id, token: max(n.stop.token, n.doomed.token), log: slices.Clone(n.log), configs: [][]int{n.voters()}}
	if !n.rules.has(appliedVoters) {
		for at := n.applied + 1; at <= len(n.log); at++ {
			if n.log[at-1].voters != nil {
				r.configs = append(r.configs, n.log[at-1].voters)
			}
		}
	}
	return r, true
}

// answered notes a report, and from when on there are enough.
func (w *world) answered(promotion int, r report) {
	f := &w.founder
	if f.promotion != promotion || f.decided || len(f.releasing) > 0 {
		return
	}
	if _, known := f.reports[r.node]; known {
		return
	}
	if f.last > 0 {
		return // they are enough, and the end is known
	}
	f.reports[r.node] = r
	if _, enough := w.fence(); enough {
		f.last = w.founderClock()
	}
}

// best returns the report with the best log: that of the latest term, and of those the longest.
func (w *world) best() (best report) {
	for _, id := range w.ids1() {
		r, known := w.founder.reports[id]
		if !known {
			continue
		}
		t, o := lastTerm(r.log), lastTerm(best.log)
		if w.rules.has(longestLog) {
			t, o = 0, 0
		}
		if best.node == 0 || t > o || t == o && len(r.log) > len(best.log) {
			best = r
		}
	}
	return best
}

// fence returns the best log, and whether enough nodes have stopped.
func (w *world) fence() (report, bool) {
	var of []int
	for id := range w.founder.reports {
		of = append(of, id)
	}
	best := w.best()
	configs := best.configs
	switch {
	case w.rules.has(minority):
		return best, len(of) > 0
	case w.rules.has(anyList): // whichever list of members came
		for _, id := range of {
			if r := w.founder.reports[id]; majority(of, r.configs[0]) {
				return best, true
			}
		}
		return best, false
	case w.rules.has(anyNode): // those without a vote count as well
		return best, 2*len(of) > len(configs[0])
	}
	for _, voters := range configs {
		if !majority(of, voters) {
			return best, false
		}
	}
	return best, true
}

// decide decides the promotion if it may be.
func (w *world) decide() {
	f := &w.founder
	if f.decided || f.promotion == 0 || f.last == 0 || len(f.releasing) > 0 {
		return
	}
	wait := w.climate.lasting * (1 + eps)
	switch {
	case w.rules.has(noWait):
		wait = 0
	case w.rules.has(noDrift):
		wait = w.climate.lasting
	}
	if w.founderClock() < f.last+wait {
		return
	}
	if !f.caught {
		w.catchUp()
		return
	}
	if w.rng.IntN(100) < w.climate.givingUp {
		w.giveUp()
		return
	}
	best, _ := w.fence()
	trusted := f.process && w.founderClock() < f.began+w.climate.trust
	if !trusted && !w.rules.has(noQuestion) {
		switch held, known := w.held(); {
		case !held:
			w.reached.Found++
			w.giveUp()
			return
		case !known:
			return
		}
	}
	f.decided, f.kept = true, f.copy
	if w.rules.has(foundersEnd) { // what the slave has: what some node has applied
		f.kept = best.log[:min(len(best.log), w.nodes[best.node].applied)]
	}
	w.reached.Decided++
	w.check()
}

// catchUp brings the founder's copy to the end of the best log. One that is no part of that is not
// promoted: it may have the end of another log, which was lent to a promotion that was given up.
func (w *world) catchUp() {
	f := &w.founder
	best, _ := w.fence()
	longEnough := len(f.copy) >= len(best.log)
	switch {
	case longEnough && w.rules.has(anyCopy):
	case !partOf(f.copy, best.log):
		w.reached.Parted++
		w.giveUp()
		return
	case !longEnough:
		f.copy = slices.Clone(best.log)
		w.reached.Lent++
	}
	f.caught = true
}

// follow has the founder's copy get what a node has applied. One that is found not to be a part of
// that is rebuilt when an operator sees it.
func (w *world) follow(n *node) {
	f := &w.founder
	applied := n.log[:n.applied]
	switch {
	case f.decided || f.caught || !n.up || n.stopped() || w.cut[n.id] || len(applied) <= len(f.copy):
	case partOf(f.copy, applied) || w.rng.IntN(8) == 0:
		f.copy = slices.Clone(applied)
	}
}

// partOf reports whether a copy seems to be a part of a log, or the log of it: they have the same
// last mutation, which is all that is compared.
func partOf(copied, log []entry) bool {
	at, id := lastMutation(copied)
	in, same := lastMutation(log[:min(len(log), len(copied))])
	return at == in && id == same
}

// lastMutation returns where the last mutation of a log is, and which.
func lastMutation(log []entry) (at, id int) {
	for i, e := range log {
		if e.voters == nil {
			at, id = i+1, e.id
		}
	}
	return at, id
}

// held asks the nodes that were counted, at one moment, whether they are stopped still: whether
// none is known not to be, and whether enough have answered.
func (w *world) held() (held, known bool) {
	f := &w.founder
	var of []int
	for id, r := range f.reports {
		n := w.nodes[id]
		if !n.up || w.cut[id] {
			continue
		}
		s := n.stop
		if n.doomed.holds() {
			s = n.doomed
		}
		if !s.holds() || s.promotion != f.promotion || s.token != r.token && !w.rules.has(forgetEnded) {
			return false, true
		}
		of = append(of, id)
	}
	for _, voters := range w.best().configs {
		if !majority(of, voters) {
			return true, w.rules.has(minority | anyList | anyNode)
		}
	}
	return true, true
}

// giveUp ends the promotion: all nodes are told until each has acknowledged it.
func (w *world) giveUp() {
	f := &w.founder
	if f.decided || f.promotion == 0 || len(f.releasing) > 0 {
		return
	}
	f.releasing, f.caught = slices.Clone(w.ids1()), false
	w.reached.GivenUp++
}

// release tells those that have not acknowledged it.
func (w *world) release() {
	f := &w.founder
	promotion := f.promotion
	for _, id := range f.releasing {
		n := w.nodes[id]
		w.send(nil, n, func() {
			if !n.up {
				return
			}
			n.endStop(promotion)
			w.send(n, nil, func() {
				if f.promotion != promotion {
					return
				}
				f.releasing = slices.DeleteFunc(f.releasing, func(o int) bool { return o == id })
				if len(f.releasing) == 0 {
					f.promotion = 0
					w.ended = append(w.ended, promotion)
				}
			})
		})
	}
}

// endStop ends a node's stop. It remembers that, also if the order to stop has yet to come.
func (n *node) endStop(promotion int) {
	if n.stopped() && max(n.stop.promotion, n.doomed.promotion) != promotion {
		return
	}
	n.doomed = stop{}
	if n.rules.has(forgetEnded) {
		n.stop = stop{}
		return
	}
	n.stop = stop{promotion: promotion, token: n.stop.token, ended: true}
}

// endByHand has an operator end the stop of a node whose founder may be gone. One that has decided
// is not gone for the operator.
func (w *world) endByHand(n *node) {
	if w.founder.decided || !n.up || !n.stop.holds() || !w.rules.has(endEarly) && n.clock() < n.stop.at+w.climate.trust*(1+eps) {
		return
	}
	n.endStop(n.stop.promotion)
	w.reached.ByHand++
}
