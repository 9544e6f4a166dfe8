package lease

import (
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// This file is the replicated state, in the parts that decide who may acknowledge and
// show what: epochs, the fence, the table of requests, and the log's clock, by which
// keys expire.

const simKeys = 2

type simKind int

const (
	simNoop simKind = iota
	simBegin
	simEnd
	simWrite
	simTick
)

// simCommand is what a log entry says.
type simCommand struct {
	kind    simKind
	begin   command.Begin
	epoch   kv.Index      // what all others are fenced by
	clock   time.Duration // the proposer's
	key     int
	write   simValue
	id      int // of the client's request; 0 for none
	origin  int // who waits for the result
	request uint64
}

// simValue is what a register holds; the zero value is nothing.
type simValue struct {
	value   int
	expires time.Duration // by the log's clock; 0: never
}

// simResult is what applying an entry came to.
type simResult struct {
	ok, repeated  bool
	now, previous command.Epoch
}

// simMachine is the replicated state. It is copied, so what it points to never changes.
type simMachine struct {
	applied   int
	epoch     command.Epoch
	clock     time.Duration
	registers [simKeys]simValue
	requests  *simRequest
}

// simRequest is an entry of the table of requests.
type simRequest struct {
	id   int
	next *simRequest
}

func (l *simRequest) has(id int) bool {
	for ; l != nil; l = l.next {
		if l.id == id {
			return true
		}
	}
	return false
}

// machineRules names what a test may take away from the state machine.
type machineRules struct {
	noFence    bool // writes of any epoch are applied
	noEarlier  bool // an epoch knows of its own leases only, not of those before it
	tableFirst bool // a repeated request is answered from the table before the fence
}

func (m *simMachine) apply(c simCommand, without machineRules) simResult {
	m.applied++
	r := simResult{ok: true, previous: m.epoch}
	switch c.kind {
	case simNoop:
	case simBegin:
		m.epoch, r.ok = m.epoch.Next(&c.begin, kv.Index(m.applied))
		if without.noEarlier {
			m.epoch.Earlier = 0
		}
	default:
		r.ok = c.epoch == m.epoch.ID && !m.epoch.Ended
		if r.ok {
			m.epoch.Earlier = 0
		}
		known := c.id != 0 && m.requests.has(c.id)
		switch {
		case known && (r.ok || without.tableFirst):
			r.ok, r.repeated = true, true
		case r.ok || without.noFence && c.kind == simWrite:
			r.ok = true
			m.effect(c)
		}
	}
	r.now = m.epoch
	return r
}

// effect is what a command does that comes through.
func (m *simMachine) effect(c simCommand) {
	if c.kind == simEnd {
		m.epoch.Ended = true
		return
	}
	m.clock = max(m.clock, c.clock)
	if c.kind == simWrite {
		m.registers[c.key] = c.write
		if c.id != 0 {
			m.requests = &simRequest{c.id, m.requests}
		}
	}
}

// expired reports whether a value shows no more at a time.
func (v simValue) expired(now time.Duration) bool { return v.expires != 0 && now >= v.expires }
