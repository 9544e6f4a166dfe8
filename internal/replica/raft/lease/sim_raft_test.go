package lease

import (
	"slices"
	"time"
)

// This file is a Raft of its own, message by message: elections, log matching,
// commit, ReadIndex by an acknowledged heartbeat, forwarding to the leader,
// TimeoutNow. It has neither CheckQuorum nor PreVote, so that a deposed leader
// takes itself for the leader until a message corrects it. Everything in it runs under
// world.mu.

type simEntry struct {
	term    uint64
	command simCommand
}

type simRole int

const (
	follower simRole = iota
	candidate
	leader
)

// simMessage is any message; which fields count depends on what is set.
type simMessage struct {
	kind     string
	term     uint64
	index    int // last or previous index, match, read index
	at       uint64
	entries  []simEntry
	commit   int
	ok       bool
	sequence uint64 // of a ReadIndex that a heartbeat confirms
	command  simCommand
	request  uint64
}

// simRead is a ReadIndex at the leader.
type simRead struct {
	sequence uint64
	index    int
	origin   int
	request  uint64
}

// simRaft is one replica's Raft.
type simRaft struct {
	w  *world
	id int

	// Kept over a restart.
	term  uint64
	voted int
	log   []simEntry // log[0] is a sentinel
	// durable is the state that the engine opens with after a restart.
	durable simMachine

	role        simRole
	leader      int // -1: unknown
	commit      int
	machine     simMachine
	votes       int
	next, match []int
	acked       []uint64
	sequence    uint64
	reads       []simRead
	election    int // generation of the election timer
	applying    bool

	// hintTerm and hintSelf are what Leader says.
	hintTerm uint64
	hintSelf bool

	results map[uint64]chan simResult
	indexed map[uint64]chan struct{} // ReadIndex calls that wait for an index
	waiting map[int][]chan struct{}  // and those that wait for its apply
}

func (r *simRaft) start() {
	r.role, r.leader, r.commit, r.machine = follower, -1, r.durable.applied, r.durable
	r.reads, r.applying = nil, false
	r.hintSelf = false
	r.results, r.indexed, r.waiting = map[uint64]chan simResult{}, map[uint64]chan struct{}{}, map[int][]chan struct{}{}
	r.armElection()
}

func (r *simRaft) armElection() {
	r.election++
	generation := r.election
	r.w.onNode(r.id, r.w.between(20*time.Millisecond, 45*time.Millisecond), func() {
		if r.election == generation && r.role != leader {
			r.campaign()
		}
	})
}

func (r *simRaft) campaign() {
	r.term++
	r.voted, r.role, r.leader, r.votes = r.id, candidate, -1, 1
	r.reads = nil
	r.hint()
	r.armElection()
	last := len(r.log) - 1
	r.broadcast(simMessage{kind: "vote", index: last, at: r.log[last].term})
}

func (r *simRaft) broadcast(m simMessage) {
	for to := range r.w.nodes {
		if to != r.id {
			r.send(to, m)
		}
	}
}

func (r *simRaft) send(to int, m simMessage) {
	m.term = r.term
	r.w.send(r.id, to, m)
}

// follow steps down into term.
func (r *simRaft) follow(term uint64, of int) {
	if term > r.term {
		r.term, r.voted = term, -1
	}
	if r.role != follower || r.leader != of {
		r.role, r.leader, r.reads = follower, of, nil
		r.hint()
	}
}

// hint tells Leader of a change, some time later.
func (r *simRaft) hint() {
	late := r.w.climate.hint
	if late == 0 {
		late = 8 * time.Millisecond
	}
	r.w.onNode(r.id, r.w.between(0, late), r.hintNow)
}

// hintNow is what the assumptions about Leader demand at once.
func (r *simRaft) hintNow() {
	self := r.role == leader
	if r.hintTerm == r.term && r.hintSelf == self {
		return
	}
	r.hintTerm, r.hintSelf = r.term, self
	if k := r.w.nodes[r.id].keeper; k != nil && r.w.chance(0.8) {
		k.LeaderChanged()
	}
}

func (r *simRaft) receive(from int, m simMessage) {
	if m.term > r.term {
		r.follow(m.term, -1)
	}
	switch m.kind {
	case "vote":
		last := len(r.log) - 1
		fresh := m.at > r.log[last].term || m.at == r.log[last].term && m.index >= last
		grant := m.term == r.term && fresh && (r.voted == -1 || r.voted == from) && r.role == follower
		if grant {
			r.voted = from
			r.armElection()
		}
		r.send(from, simMessage{kind: "voted", ok: grant})
	case "voted":
		if m.ok && m.term == r.term && r.role == candidate {
			if r.votes++; r.votes > len(r.w.nodes)/2 {
				r.lead()
			}
		}
	case "append":
		r.onAppend(from, m)
	case "appended":
		r.onAppended(from, m)
	case "timeout-now":
		if m.term == r.term && r.role != leader {
			r.campaign()
		}
	case "propose":
		r.propose(m.command)
	case "read":
		r.read(from, m.request)
	case "read-index":
		r.await(m.request, m.index)
	}
}

func (r *simRaft) lead() {
	n := len(r.w.nodes)
	r.role, r.leader = leader, r.id
	r.next, r.match, r.acked = make([]int, n), make([]int, n), make([]uint64, n)
	for i := range r.next {
		r.next[i] = len(r.log)
	}
	r.w.reached.Elections++
	r.hint()
	r.append(simCommand{kind: simNoop})
	r.heartbeat(r.term)
}

func (r *simRaft) heartbeat(term uint64) {
	if r.role != leader || r.term != term {
		return
	}
	r.replicate()
	r.w.onNode(r.id, r.w.between(7*time.Millisecond, 9*time.Millisecond), func() { r.heartbeat(term) })
}

func (r *simRaft) append(c simCommand) {
	r.log = append(r.log, simEntry{term: r.term, command: c})
	if len(r.w.nodes) == 1 {
		r.advance()
	}
}

// replicate sends everybody what it lacks.
func (r *simRaft) replicate() {
	for to := range r.w.nodes {
		if to != r.id {
			previous := r.next[to] - 1
			r.send(to, simMessage{kind: "append", index: previous, at: r.log[previous].term,
				entries: slices.Clone(r.log[previous+1:]), commit: r.commit, sequence: r.sequence})
		}
	}
}

func (r *simRaft) onAppend(from int, m simMessage) {
	if m.term < r.term {
		r.send(from, simMessage{kind: "appended"})
		return
	}
	r.follow(m.term, from)
	r.armElection()
	if m.index >= len(r.log) || r.log[m.index].term != m.at {
		r.send(from, simMessage{kind: "appended", index: min(m.index-1, len(r.log)-1), sequence: m.sequence})
		return
	}
	for i, e := range m.entries {
		at := m.index + 1 + i
		if at < len(r.log) && r.log[at].term != e.term {
			if at <= r.commit {
				panic("simulation: a committed entry would be lost")
			}
			r.log = r.log[:at:at]
		}
		if at == len(r.log) {
			r.log = append(r.log, e)
		}
	}
	last := m.index + len(m.entries)
	r.send(from, simMessage{kind: "appended", ok: true, index: last, sequence: m.sequence})
	r.commitTo(min(m.commit, last))
}

func (r *simRaft) onAppended(from int, m simMessage) {
	if m.term != r.term || r.role != leader {
		return
	}
	// A node that answers in this term has not voted in a later one before.
	r.acked[from] = max(r.acked[from], m.sequence)
	if m.ok {
		r.match[from] = max(r.match[from], m.index)
		r.next[from] = max(r.next[from], m.index+1)
		r.advance()
	} else {
		r.next[from] = max(1, min(r.next[from], m.index+1))
	}
	r.confirmReads()
}

// advance commits what a majority has, if it is of this term.
func (r *simRaft) advance() {
	r.match[r.id] = len(r.log) - 1
	index := majority(r.match)
	if index > r.commit && r.log[index].term == r.term {
		r.commitTo(index)
	}
}

func (r *simRaft) commitTo(index int) {
	r.commit = max(r.commit, index)
	if r.machine.applied < r.commit && !r.applying {
		r.applying = true
		r.w.onNode(r.id, r.w.applyDelay(r.id), r.applyCommitted)
	}
}

func (r *simRaft) applyCommitted() {
	r.applying = false
	for r.machine.applied < r.commit {
		e := r.log[r.machine.applied+1]
		result := r.machine.apply(e.command, r.w.o.machine)
		if e.command.kind == simBegin && result.ok {
			// A later owner's writes are not seen before Leader knows of it.
			r.hintNow()
			if result.now.Earlier > 0 {
				r.w.reached.LongerEarlier++
			}
		}
		if ch := r.results[e.command.request]; ch != nil && e.command.origin == r.id {
			ch <- result
			delete(r.results, e.command.request)
		}
		if e.command.kind == simWrite && !result.ok {
			r.w.reached.FencedEntries++
		}
		if result.repeated {
			r.w.reached.RepeatedEntries++
		}
	}
	if r.w.chance(0.1) {
		r.durable = r.machine
	}
	for index, chans := range r.waiting {
		if index <= r.machine.applied {
			for _, ch := range chans {
				close(ch)
			}
			delete(r.waiting, index)
		}
	}
}

// majority is the greatest that more than half of all have reached.
func majority[T int | uint64](all []T) T {
	var sorted [5]T
	n := copy(sorted[:], all)
	slices.Sort(sorted[:n])
	return sorted[(n-1)/2]
}

// propose appends to the leader's log, or sends there once.
func (r *simRaft) propose(c simCommand) {
	switch {
	case r.role == leader:
		r.append(c)
		r.replicate()
	case r.leader >= 0 && c.origin == r.id:
		r.send(r.leader, simMessage{kind: "propose", command: c})
	}
}

// read starts a ReadIndex for a replica, or asks the leader to.
func (r *simRaft) read(origin int, request uint64) {
	switch {
	case r.role == leader && r.log[r.commit].term == r.term:
		r.sequence++
		r.reads = append(r.reads, simRead{sequence: r.sequence, index: r.commit, origin: origin, request: request})
		r.replicate()
		r.confirmReads()
	case r.role != leader && r.leader >= 0 && origin == r.id:
		r.hintNow()
		r.w.reached.ForwardedReads++
		r.send(r.leader, simMessage{kind: "read", request: request})
	}
}

// confirmReads answers those that a majority has confirmed.
func (r *simRaft) confirmReads() {
	r.acked[r.id] = r.sequence
	confirmed := majority(r.acked)
	for len(r.reads) > 0 && r.reads[0].sequence <= confirmed {
		read := r.reads[0]
		r.reads = r.reads[1:]
		if read.origin == r.id {
			r.await(read.request, read.index)
		} else {
			r.send(read.origin, simMessage{kind: "read-index", request: read.request, index: read.index})
		}
	}
}

// await completes a ReadIndex call once index is applied.
func (r *simRaft) await(request uint64, index int) {
	ch := r.indexed[request]
	if ch == nil {
		return
	}
	delete(r.indexed, request)
	if index <= r.machine.applied {
		close(ch)
		return
	}
	r.waiting[index] = append(r.waiting[index], ch)
}
