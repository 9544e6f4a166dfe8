package replica

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/replica/transport"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

const (
	// roomInterval is how often room is looked for while a snapshot waits for it.
	roomInterval = 500 * time.Millisecond
	// leastSnapshot is what a snapshot of unknown size is taken to have.
	leastSnapshot = 1 << 20
	// takenUpWithin is for how long the room of a state is held free after its snapshot
	// has arrived, if the log does not take it up.
	takenUpWithin = time.Minute
)

// hostRoom admits snapshots that other members want to send, if there is room for them.
// A snapshot is received as a file beside the log, and the state is built from that, so
// it takes its size twice, beside the present state. Dragonboat would find out when the
// disk is full, which ends the process.
type hostRoom struct {
	mu sync.Mutex
	// promised is what admitted snapshots have yet to write.
	promised map[*incomingSnapshot]struct{}
}

// incomingSnapshot is one that was admitted. Its fields belong to the room.
type incomingSnapshot struct {
	room *hostRoom
	host *Host
	r    *Raft
	// file is what is yet to come, state what will be built from it.
	file, state uint64
	// until is when the promise ends; zero while the snapshot is coming.
	until time.Time
}

// receiver implements transport.Receiver.
type receiver struct{ h *Host }

// Admit implements transport.Receiver.
func (v receiver) Admit(ctx context.Context, s transport.Snapshot) (transport.Admission, error) {
	found, ok := v.h.rafts.Load(s.Shard)
	if !ok {
		return nil, fmt.Errorf("there is no vBucket with the number %d here", s.Shard)
	}
	r := found.(*Raft)
	if s.Replica != r.raft.Replica {
		return nil, fmt.Errorf("replica %d of this vBucket is here, not %d", r.raft.Replica, s.Replica)
	}
	r.decided.heard(s.Index)
	look := time.NewTicker(roomInterval)
	defer look.Stop()
	for {
		if state := r.State(); state != Starting && state != Serving && state != Restoring {
			return nil, fmt.Errorf("the replica takes no part in the log at present, it is %s", state)
		}
		in, err := v.h.room.promise(v.h, r, max(s.Size, leastSnapshot))
		if err == nil {
			r.behind.end(r)
			return in, nil
		}
		r.behind.say(r, fmt.Errorf("a snapshot of about %d MiB from member %d does not fit: %w; free some space or enlarge the disk, it is taken when there is room",
			mebibytes(s.Size), s.From, err))
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

func mebibytes(n uint64) uint64 { return (n + 1<<20 - 1) >> 20 }

// promise holds room free for a snapshot of a size, if there is.
func (m *hostRoom) promise(h *Host, r *Raft, size uint64) (*incomingSnapshot, error) {
	in := &incomingSnapshot{room: m, host: h, r: r, file: size}
	if r.opts.Generations != nil {
		in.state = size
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// The log and other states grow meanwhile.
	if err := m.fits(in, in.file, size/16+reopenRoom); err != nil {
		return nil, err
	}
	if m.promised == nil {
		m.promised = make(map[*incomingSnapshot]struct{})
	}
	m.promised[in] = struct{}{}
	return in, nil
}

// fits returns an error if there is no room for a file of in, and what is behind it. The
// caller holds mu.
func (m *hostRoom) fits(in *incomingSnapshot, file, more uint64) error {
	state := in.state + more
	now := time.Now()
	for other := range m.promised {
		switch {
		case other == in:
		case !other.until.IsZero() && now.After(other.until):
			delete(m.promised, other)
		default:
			file, state = file+other.file, state+other.state
		}
	}
	log, states := in.host.opts.Guard, in.r.opts.Guard
	if log == nil { // it is on the disk of the states
		return states.Fits(file + state)
	}
	if err := log.Fits(file); err != nil {
		return err
	}
	if in.state == 0 {
		return nil
	}
	return states.Fits(state)
}

// More implements transport.Admission: the disk may have become full meanwhile.
func (in *incomingSnapshot) More(n int) error {
	in.room.mu.Lock()
	defer in.room.mu.Unlock()
	if err := in.room.fits(in, max(in.file, uint64(n)), 0); err != nil {
		return fmt.Errorf("the disk has become too full for it: %w", err)
	}
	in.file -= min(in.file, uint64(n))
	return nil
}

// Done implements transport.Admission. The state has yet to be built.
func (in *incomingSnapshot) Done(whole bool) {
	in.room.mu.Lock()
	defer in.room.mu.Unlock()
	if in.file = 0; !whole {
		delete(in.room.promised, in)
		return
	}
	in.until = time.Now().Add(takenUpWithin)
}

// takenUp ends the promises for a replica that has built, or has failed to build, its
// state from a snapshot.
func (m *hostRoom) takenUp(r *Raft) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for in := range m.promised {
		if in.r == r && !in.until.IsZero() {
			delete(m.promised, in)
		}
	}
}

// behind is why a replica cannot catch up.
type behind struct {
	mu    sync.Mutex
	why   error
	since time.Time
}

// behindFor is for how long a reason stands that was not found again: the leader offers a
// snapshot again within some seconds.
const behindFor = time.Minute

// say notes why. The log says so once, not each time that it is found again.
func (b *behind) say(r *Raft, why error) {
	b.mu.Lock()
	first := b.current() == nil
	b.why, b.since = why, time.Now()
	b.mu.Unlock()
	if first {
		r.opts.Log.Error("this replica cannot catch up", "vbucket", r.opts.VBucket, "error", why)
	}
}

func (b *behind) end(r *Raft) {
	b.mu.Lock()
	was := b.current()
	b.why = nil
	b.mu.Unlock()
	if was != nil {
		r.opts.Log.Info("there is room for a snapshot now; the replica catches up", "vbucket", r.opts.VBucket)
	}
}

// current returns why; nil if nothing keeps the replica from catching up. The caller
// holds mu.
func (b *behind) current() error {
	if b.why != nil && time.Since(b.since) > behindFor {
		b.why = nil
	}
	return b.why
}

// Behind returns why this replica cannot catch up with the log at present; nil if it can,
// as far as is known.
func (r *Raft) Behind() error {
	r.behind.mu.Lock()
	defer r.behind.mu.Unlock()
	return r.behind.current()
}

// awaited is what a replica that has failed for want of space needs before it can go on.
type awaited struct {
	mu    sync.Mutex
	guard *diskspace.Guard
	bytes uint64
}

// fits asks a guard for room, and remembers it if there is none.
func (a *awaited) fits(guard *diskspace.Guard, bytes uint64) error {
	err := guard.Fits(bytes)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.guard, a.bytes = nil, 0; err != nil {
		a.guard, a.bytes = guard, bytes
	}
	return err
}

// there returns an error while there is less room than what was asked for.
func (a *awaited) there() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.guard.Fits(a.bytes)
}
