package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/timing"
)

// group is a vBucket's log as a majority has it. All fakeRafts over it see the
// same state at once.
type group struct {
	mu      sync.Mutex
	name    string
	peers   map[uint64]replica.Peer
	removed []uint64
	version uint64
	records map[uint64]replica.Member
	leader  uint64
	applied kv.Index
	format  uint32
	// setting is the members' timing that the log has recorded.
	setting timing.Setting
	// continues means that the log began with an earlier state.
	continues bool
	// restoring means that a backup is being restored at the leader.
	restoring bool
	// minority means that no majority answers.
	minority bool
	// steps are the changes that took effect, in order, such as "add 4".
	steps []string
	// before is called ahead of a step, and after it once it took effect; where
	// one returns an error, that is what the caller gets.
	before, after func(step string) error
}

func newGroup(name string) *group {
	nothing := func(string) error { return nil }
	return &group{
		name: name, version: 1, applied: 100, before: nothing, after: nothing,
		peers: make(map[uint64]replica.Peer), records: make(map[uint64]replica.Member),
	}
}

var errMinority = kv.Errorf(kv.Unavailable, "no majority")

// step makes a change, unless no majority is there for it.
func (g *group) step(text string, change func() error) error {
	g.mu.Lock()
	before, after, minority := g.before, g.after, g.minority
	g.mu.Unlock()
	if err := before(text); err != nil {
		return err
	}
	if minority {
		return errMinority
	}
	if err := g.locked(func() error {
		if err := change(); err != nil {
			return err
		}
		g.steps = append(g.steps, text)
		return nil
	}); err != nil {
		return err
	}
	return after(text)
}

func (g *group) locked(f func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return f()
}

// set changes the state and notifies no one.
func (g *group) set(f func()) { _ = g.locked(func() error { f(); return nil }) }

// done lists the changes that took effect since it was last called.
func (g *group) done() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.steps
	g.steps = nil
	return out
}

// voters lists the ids that vote, in order.
func (g *group) voters() []uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []uint64
	for id, p := range g.peers {
		if p.Voting {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (g *group) owner() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leader
}

// reconfigure is a change of the membership that was looked at in a version.
func (g *group) reconfigure(text string, version uint64, change func() error) error {
	return g.step(text, func() error {
		if version != g.version {
			return kv.Errorf(kv.Unavailable, "the membership has changed meanwhile")
		}
		if err := change(); err != nil {
			return err
		}
		g.version++
		return nil
	})
}

// errRejected is what a log answers to a change that it does not make.
var errRejected = kv.Errorf(kv.Unavailable, "rejected: look again")

// fakeRaft is one member's replica of a group.
type fakeRaft struct {
	*group
	self uint64
	// behind is what this replica has of the setting, if it has not all.
	behind *timing.Setting
	// out is how often the replica was told that it is no member.
	out int
	// end is where the replica's own log ended when it was started; 0 is far enough.
	end kv.Index
	// blind are the members whose records are not here yet.
	blind map[uint64]bool
	// retired is what the replica was retired for.
	retired error
	// deaf is a replica that hears nothing of the others.
	deaf atomic.Bool
	// cut is one that hears nothing either, and still takes who led for the leader,
	// as one without a vote does.
	cut atomic.Bool
	// fit is what it was told by Prefer.
	fit func(id uint64) bool
	// heard is what the replica was told of who leads: ids and terms.
	heard [][2]uint64
}

func (r *fakeRaft) Restoring() bool { return r.restoring }

func (r *fakeRaft) Prefer(fit func(id uint64) bool) { r.fit = fit }

func (r *fakeRaft) Owner() replica.Owner {
	if r.deaf.Load() {
		return replica.Owner{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return replica.Owner{Self: r.leader == r.self, ID: r.leader, Address: r.records[r.leader].Address}
}

func (r *fakeRaft) Status() replica.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return replica.Status{VBucket: r.name, Applied: r.applied, State: replica.Serving}
}

func (r *fakeRaft) Applied() kv.Index { return r.Status().Applied }

func (r *fakeRaft) Members() map[uint64]replica.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := maps.Clone(r.records)
	maps.DeleteFunc(out, func(id uint64, _ replica.Member) bool { return r.blind[id] })
	return out
}

func (r *fakeRaft) Membership(ctx context.Context) (replica.Membership, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.minority || r.deaf.Load() || r.cut.Load() || ctx.Err() != nil {
		return replica.Membership{}, errMinority
	}
	m := replica.Membership{Version: r.version, Removed: slices.Clone(r.removed)}
	for _, id := range slices.Sorted(maps.Keys(r.peers)) {
		p := r.peers[id]
		p.Member = r.records[id]
		m.Peers = append(m.Peers, p)
	}
	return m, nil
}

func (r *fakeRaft) Add(_ context.Context, id uint64, address string, version uint64) error {
	return r.reconfigure(fmt.Sprintf("add %d", id), version, func() error {
		if _, is := r.peers[id]; is || slices.Contains(r.removed, id) {
			return errRejected
		}
		r.peers[id] = replica.Peer{ID: id, Address: address}
		return nil
	})
}

func (r *fakeRaft) Promote(_ context.Context, id uint64, address string, version uint64) error {
	return r.reconfigure(fmt.Sprintf("promote %d", id), version, func() error {
		if p, is := r.peers[id]; !is || p.Address != address {
			return errRejected
		}
		r.peers[id] = replica.Peer{ID: id, Address: address, Voting: true}
		return nil
	})
}

func (r *fakeRaft) Remove(_ context.Context, id, version uint64) error {
	return r.reconfigure(fmt.Sprintf("remove %d", id), version, func() error {
		if _, is := r.peers[id]; !is {
			return errRejected
		}
		delete(r.peers, id)
		r.removed = append(r.removed, id)
		if r.leader == id {
			r.leader = 0
		}
		return nil
	})
}

func (r *fakeRaft) SetMember(_ context.Context, id uint64, m replica.Member) error {
	text := fmt.Sprintf("record %d", id)
	if m == (replica.Member{}) {
		text = fmt.Sprintf("forget %d", id)
	}
	return r.step(text, func() error {
		if m == (replica.Member{}) {
			delete(r.records, id)
		} else {
			r.records[id] = m
		}
		return nil
	})
}

func (r *fakeRaft) TransferLeader(_ context.Context, to uint64) error {
	return r.step(fmt.Sprintf("transfer %d", to), func() error {
		if r.leader != r.self {
			return kv.Errorf(kv.Unavailable, "this replica does not lead")
		}
		for _, id := range slices.Sorted(maps.Keys(r.peers)) {
			if p := r.peers[id]; p.Voting && id != r.self && (to == 0 || id == to) {
				r.leader = id
				return nil
			}
		}
		return kv.Errorf(kv.Precondition, "no other member could take over")
	})
}

func (r *fakeRaft) Snapshot(context.Context) error {
	return r.step("snapshot", func() error { return nil })
}

func (r *fakeRaft) Continues() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.continues
}

func (r *fakeRaft) HearLeader(id, term uint64) {
	r.set(func() { r.heard = append(r.heard, [2]uint64{id, term}) })
}

// lastHeard is who this replica was last told to lead, and in which term.
func (r *fakeRaft) lastHeard() (id, term uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.heard) == 0 {
		return 0, 0
	}
	last := r.heard[len(r.heard)-1]
	return last[0], last[1]
}

func (r *fakeRaft) Format() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(r.format, 1)
}

func (r *fakeRaft) TimingSetting() timing.Setting {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.behind != nil {
		return *r.behind
	}
	return r.setting
}

func (r *fakeRaft) Reached(index kv.Index) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != 0 && index > r.end {
		return fmt.Errorf("index %d had been applied, and the log ends at %d", index, r.end)
	}
	return nil
}

func (r *fakeRaft) Retire(reason error) { r.set(func() { r.retired = reason }) }

// Leave gives the vBucket to any other member.
func (r *fakeRaft) Leave() { _ = r.TransferLeader(context.Background(), 0) }

func (r *fakeRaft) MarkRemoved() { r.set(func() { r.out++ }) }

func (r *fakeRaft) putOut() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out
}
