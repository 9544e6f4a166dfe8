package stops

import (
	"slices"
)

// entry is an entry of the log. One with voters changes the membership to them; otherwise it is
// a mutation that a process of a node has proposed.
type entry struct {
	term, id  int
	voters    []int
	by, start int
}

// node is a member of the group, or becomes one. Raft is as the engine has it: a change of the
// membership counts from when it is applied, and the next one is proposed after that.
type node struct {
	*world
	id   int
	rate float64
	up   bool
	// start counts the processes.
	start int

	// What is durable.
	term, vote int
	log        []entry
	stop       stop

	// What is in memory.
	commit, applied int
	leads           bool
	votes           []int
	match           map[int]int
	// lease is until when reads are answered, by the node's clock; heard are the members that
	// have answered the round of a time.
	lease float64
	heard map[float64][]int
	// doomed is a stop that is not durable.
	doomed stop
}

func (n *node) clock() float64 { return n.now * n.rate }

// takesPart reports whether a node votes, acknowledges and proposes.
func (n *node) takesPart() bool { return n.up && !n.stopped() }

func (n *node) stopped() bool { return n.stop.holds() || n.doomed.holds() }

// votersAt are those after the first entries of a log.
func votersAt(log []entry, applied int) []int {
	for i := applied; i > 0; i-- {
		if log[i-1].voters != nil {
			return log[i-1].voters
		}
	}
	return []int{1, 2, 3}
}

func (n *node) voters() []int { return votersAt(n.log, n.applied) }

// changes reports whether a change of the membership waits to be applied.
func (n *node) changes(upTo int) bool {
	return slices.ContainsFunc(n.log[n.applied:upTo], func(e entry) bool { return e.voters != nil })
}

func majority(of, in []int) bool {
	count := 0
	for _, id := range in {
		if slices.Contains(of, id) {
			count++
		}
	}
	return 2*count > len(in)
}

func lastTerm(log []entry) int {
	if len(log) == 0 {
		return 0
	}
	return log[len(log)-1].term
}

// later has a node go to a later term.
func (n *node) later(term int) {
	if term > n.term {
		n.term, n.vote, n.leads = term, 0, false
	}
}

// campaign begins an election.
func (n *node) campaign() {
	if !n.takesPart() || n.leads || !slices.Contains(n.voters(), n.id) || n.changes(n.commit) {
		return
	}
	n.later(n.term + 1)
	n.vote, n.votes = n.id, []int{n.id}
	term, last, length := n.term, lastTerm(n.log), len(n.log)
	for _, id := range n.voters() {
		to := n.nodes[id]
		n.send(n, to, func() {
			if !to.takesPart() {
				return
			}
			to.later(term)
			if to.term != term || to.vote != 0 && to.vote != n.id || last < lastTerm(to.log) || last == lastTerm(to.log) && length < len(to.log) {
				return
			}
			to.vote = n.id
			to.send(to, n, func() { n.elected(term, to.id) })
		})
	}
}

func (n *node) elected(term, by int) {
	if !n.takesPart() || n.term != term || n.leads {
		return
	}
	if n.votes = append(n.votes, by); !majority(n.votes, n.voters()) {
		return
	}
	n.leads, n.match, n.lease, n.heard = true, map[int]int{}, 0, map[float64][]int{}
	n.propose(nil)
	n.reached.Leaders++
}

// propose appends a mutation, or a change of the membership.
func (n *node) propose(voters []int) {
	if !n.takesPart() || !n.leads {
		return
	}
	n.ids++
	n.log = append(n.log, entry{term: n.term, id: n.ids, voters: voters, by: n.id, start: n.start})
}

// change proposes to add a voter, or to remove one.
func (n *node) change() {
	if !n.leads || n.changes(len(n.log)) || n.commit == 0 || n.log[n.commit-1].term != n.term {
		return
	}
	voters := slices.Clone(n.voters())
	id := 1 + n.rng.IntN(len(n.nodes)-1)
	if i := slices.Index(voters, id); i < 0 {
		voters = append(voters, id)
	} else if len(voters) > 2 && id != n.id {
		voters = slices.Delete(voters, i, i+1)
	} else {
		return
	}
	n.propose(voters)
	n.reached.Changed++
}

// replicate sends the log to a member, which begins a round of the lease as well.
func (n *node) replicate(to *node) {
	if !n.takesPart() || !n.leads || to == n {
		return
	}
	term, log, commit, began, start := n.term, n.log[:len(n.log):len(n.log)], n.commit, n.clock(), n.start
	if len(log) > 0 && n.rng.IntN(4) == 0 { // not all of it
		log = log[:1+n.rng.IntN(len(log))]
	}
	n.send(n, to, func() {
		acks := to.takesPart() || to.up && to.rules.has(stoppedAcknowledge)
		if !acks || term < to.term {
			return
		}
		to.later(term)
		to.leads = false
		same := 0
		for same < min(len(log), len(to.log)) && log[same].id == to.log[same].id {
			same++
		}
		if same < len(log) {
			to.log = append(to.log[:same:same], log[same:]...)
		}
		to.commit = max(to.commit, min(commit, len(log)))
		to.send(to, n, func() { n.acknowledged(start, term, to.id, len(log), began) })
	})
}

func (n *node) acknowledged(start, term, by, length int, began float64) {
	if !n.takesPart() || n.start != start || n.term != term || !n.leads {
		return
	}
	n.match[by] = max(n.match[by], length)
	n.heard[began] = append(n.heard[began], by)
	n.advance()
	if n.commit > 0 && n.log[n.commit-1].term == term && majority(append(n.heard[began], n.id), n.voters()) {
		n.lease = max(n.lease, began+n.climate.lasting)
		n.reached.Leases++
	}
}

// advance commits what a majority has.
func (n *node) advance() {
	for at := len(n.log); at > n.commit && n.log[at-1].term == n.term; at-- {
		has := []int{n.id}
		for id, length := range n.match {
			if length >= at {
				has = append(has, id)
			}
		}
		if majority(has, n.voters()) {
			n.commit = at
			return
		}
	}
}

// apply applies one entry, and answers the mutation if this process has proposed it.
func (n *node) apply() {
	if !n.up || n.applied >= n.commit {
		return
	}
	n.applied++
	if e := n.log[n.applied-1]; e.by == n.id && e.start == n.start && e.voters == nil {
		n.shown(n.applied)
	}
	if !slices.Contains(n.voters(), n.id) {
		n.leads = false
	}
}

// read answers a read under the lease.
func (n *node) read() {
	if !n.up || !n.leads || n.clock() >= n.lease {
		return
	}
	n.shown(n.applied)
	if n.reached.Reads++; n.founder.decided {
		n.wrong = "a read was answered after the new masters did"
	}
}

func (n *node) crash() {
	if !n.up {
		return
	}
	n.up, n.leads, n.doomed = false, false, stop{}
	n.reached.Crashes++
}

// begin starts a process of the node.
func (n *node) begin() {
	if n.up {
		return
	}
	n.up, n.start = true, n.start+1
	n.commit = n.rng.IntN(n.commit + 1) // the last may not have been durable
	n.applied = min(n.applied, n.commit)
	n.match, n.heard, n.lease = map[int]int{}, map[float64][]int{}, 0
	if n.rules.has(forgetAtStart) {
		n.stop = stop{}
	}
}
