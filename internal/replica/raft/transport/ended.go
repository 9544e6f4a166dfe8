package transport

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

const (
	// probes is how often a member is dialled after its connection has ended, with pauses that
	// begin with probePause and double: a process that ends closes one port and connection
	// after another, and may still answer for a while.
	probes     = 8
	probePause = 20 * time.Millisecond
)

// lost is called when the connection by which a member sent messages has ended. It finds out
// whether the member's process has ended too.
func (t *transport) lost(address string) {
	if address == "" || t.opts.Ended == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil || t.probing[address] {
		return
	}
	t.probing[address] = true
	t.running.Go(func() {
		ended := t.hasEnded(address)
		t.mu.Lock()
		delete(t.probing, address)
		t.mu.Unlock()
		if ended {
			t.opts.Ended(address)
		}
	})
}

// hasEnded reports whether no process listens at the address of a member, as that machine
// says itself. Silence says nothing.
func (t *transport) hasEnded(address string) bool {
	for i := range probes {
		conn, err := t.dial(t.ctx, address, forMessages)
		if err == nil {
			conn.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return true
		}
		select {
		case <-time.After(probePause << i):
		case <-t.ctx.Done():
			return false
		}
	}
	return false
}

// Campaign has a replica of this host begin an election at once, as if it had waited for its
// leader for long enough. It is meant for the term alone: in a later one it has no effect.
func (f *Factory) Campaign(shard, replica, leader, term uint64) {
	t := f.made.Load()
	if t == nil || !t.enter() {
		return
	}
	defer t.running.Done()
	err := t.hand(raftpb.MessageBatch{
		DeploymentId: t.deployment, BinVer: raftio.TransportBinVersion,
		Requests: []raftpb.Message{{Type: raftpb.TimeoutNow, ShardID: shard, To: replica, From: leader, Term: term}},
	})
	if err != nil {
		t.opts.Log.Warn("no election was begun for a leader whose process has ended", "shard", shard, "error", err)
	}
}

// Listens reports whether a member of this cluster listens at a Raft address.
func (f *Factory) Listens(ctx context.Context, address string) bool {
	t := f.made.Load()
	if t == nil || !t.enter() {
		return false
	}
	defer t.running.Done()
	conn, err := t.dial(ctx, address, forMessages)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// enter keeps Close from returning until running.Done is called. It reports false if the
// transport is closed.
func (t *transport) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return false
	}
	t.running.Add(1)
	return true
}
