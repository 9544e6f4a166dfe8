package host

import (
	"context"
	"sync"
	"time"
)

// ended tells the groups that the process of the member at a Raft address has ended.
func (h *Host) ended(address string) {
	h.groups.Range(func(_, g any) bool {
		g.(Group).MemberEnded(address)
		return true
	})
}

// Campaign has a replica of this host begin an election, unless its log is in a later term.
func (h *Host) Campaign(shard, replica, leader, term uint64) {
	if h.network != nil {
		h.network.Campaign(shard, replica, leader, term)
	}
}

// ports are the Raft ports of other members that were tried lately.
type ports struct {
	mu    sync.Mutex
	tried map[string]port
}

type port struct {
	at   time.Time
	open bool
}

// Listens reports whether a member listens at a Raft address, or did within a round trip. All
// groups of a new cluster ask at the same time.
func (h *Host) Listens(ctx context.Context, address string) bool {
	if h.network == nil {
		return false
	}
	h.ports.mu.Lock()
	defer h.ports.mu.Unlock()
	if last, known := h.ports.tried[address]; known && time.Since(last.at) < h.opts.Timing.RTT {
		return last.open
	}
	ctx, cancel := context.WithTimeout(ctx, h.opts.Timing.RTT)
	defer cancel()
	open := h.network.Listens(ctx, address)
	if h.ports.tried == nil {
		h.ports.tried = make(map[string]port)
	}
	h.ports.tried[address] = port{time.Now(), open}
	return open
}
