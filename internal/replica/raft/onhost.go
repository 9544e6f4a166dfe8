package raft

import (
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// onHost is a replica as its host sees it.
type onHost struct{ r *Replica }

// Replica implements Group.
func (g onHost) Replica() uint64 { return g.r.raft.Replica }

// State implements Group.
func (g onHost) State() replica.State { return g.r.State() }

// OnDisk implements Group.
func (g onHost) OnDisk() bool { return g.r.opts.Generations != nil }

// Guard implements Group.
func (g onHost) Guard() *diskspace.Guard { return g.r.opts.Guard }

// SnapshotSize implements Group.
func (g onHost) SnapshotSize() uint64 { return g.r.sending.Load() }

// LeaderUpdated implements Group.
func (g onHost) LeaderUpdated(info raftio.LeaderInfo) { g.r.leaderUpdated(info) }

// MemberEnded implements Group.
func (g onHost) MemberEnded(address string) { g.r.memberEnded(address) }

// Committed implements Group.
func (g onHost) Committed(entry uint64) {
	if g.r.committed.heard(entry) {
		g.r.moments.commit(entry)
	}
}

// Lacks implements Group.
func (g onHost) Lacks(why error) {
	if why == nil {
		g.r.behind.end(g.r)
	} else {
		g.r.behind.say(g.r, why)
	}
}

// Removed implements Group.
func (g onHost) Removed() { g.r.MarkRemoved() }
