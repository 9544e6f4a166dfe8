package replica

import (
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/timing"
)

// Peer is a member of a log as the log sees it.
type Peer struct {
	ID     uint64
	Member Member
	// Address is the Raft address that the log sends to.
	Address string
	// Voting reports whether the member has a vote; one without only follows.
	Voting bool
}

// Membership is the list of a log's members.
type Membership struct {
	Peers []Peer
	// Removed are the ids of members that were removed. None of them is ever used again.
	Removed []uint64
	// Version changes with each change of the membership.
	Version uint64
}

// Voters returns how many members have a vote.
func (m *Membership) Voters() int {
	n := 0
	for _, p := range m.Peers {
		if p.Voting {
			n++
		}
	}
	return n
}

// NextID is the least id that no member has ever had.
func (m *Membership) NextID() uint64 {
	next := uint64(1)
	for _, p := range m.Peers {
		next = max(next, p.ID+1)
	}
	for _, id := range m.Removed {
		next = max(next, id+1)
	}
	return next
}

// At returns the peer at a Raft address.
func (m *Membership) At(address string) (Peer, bool) {
	for _, p := range m.Peers {
		if p.Address == address {
			return p, true
		}
	}
	return Peer{}, false
}

// Running names the peers whose processes run with a timing, as they have announced.
func Running(t timing.Timing, peers []Peer) []string {
	var out []string
	for _, p := range peers {
		if p.Member.Timing == t {
			out = append(out, fmt.Sprintf("member %s (replica %d)", p.Member.Name, p.ID))
		}
	}
	slices.Sort(out)
	return out
}
