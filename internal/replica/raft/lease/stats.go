package lease

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// Stats is the condition of a Keeper and what it has done.
type Stats struct {
	// Epoch is the active one, and Term its; zero for none.
	Epoch kv.Index
	Term  uint64
	// Waiting reports whether a takeover waits for earlier leases to end.
	Waiting bool
	// Remaining is what is left of the lease; zero for none.
	Remaining time.Duration
	// LeaseReads counts reads that asked no other node, Confirmed those that a ReadIndex
	// let through, and Fallbacks the calls of Confirm.
	LeaseReads, Confirmed, Fallbacks uint64
	// ReadIndexes counts what was asked of the quorum, renewals included.
	ReadIndexes uint64
	Activations uint64
	// WaitOuts counts the takeovers that had to wait for earlier leases.
	WaitOuts uint64
	// Failures counts calls of the Group that failed.
	Failures uint64
}

// counts are what Stats reports.
type counts struct {
	leaseReads                                                         striped
	confirmed, fallbacks, readIndexes, activations, waitOuts, failures atomic.Uint64
}

// striped is a counter that many cores may bump without fighting for its line.
type striped struct {
	cells [8]struct {
		n atomic.Uint64
		_ [56]byte
	}
}

func (s *striped) add() { s.cells[rand.Uint32()%8].n.Add(1) }

func (s *striped) load() (n uint64) {
	for i := range s.cells {
		n += s.cells[i].n.Load()
	}
	return n
}

// Stats returns the present statistics. It asks no other node.
func (k *Keeper) Stats() Stats {
	s := Stats{
		LeaseReads: k.counts.leaseReads.load(), Confirmed: k.counts.confirmed.Load(),
		Fallbacks: k.counts.fallbacks.Load(), ReadIndexes: k.counts.readIndexes.Load(),
		Activations: k.counts.activations.Load(), WaitOuts: k.counts.waitOuts.Load(),
		Failures: k.counts.failures.Load(),
	}
	k.mu.Lock()
	s.Waiting = k.waiting != nil
	k.mu.Unlock()
	if t := k.active.Load(); t != nil {
		s.Epoch, s.Term = t.epoch, t.term
	}
	if g := k.grant.Load(); g != nil {
		s.Remaining = max(0, g.until-k.o.Clock.Now())
	}
	return s
}
