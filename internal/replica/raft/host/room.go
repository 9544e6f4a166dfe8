package host

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/transport"
	"github.com/dkvdb/dkv/internal/replica/state"
)

const (
	// roomInterval is how often the free space is checked while a snapshot waits for room.
	roomInterval = 500 * time.Millisecond
	// leastSnapshot is the size, in bytes, that a snapshot of unknown size is assumed to
	// have.
	leastSnapshot = 1 << 20
	// takenUpWithin is for how long room is reserved for a state after its snapshot has
	// arrived, if nothing is built from it.
	takenUpWithin = time.Minute
)

// room admits snapshots that other members want to send, if there is room for them. A
// snapshot is received as a file beside the log, and the state is built from that, so it
// needs its size twice, beside the present state. Without this check Dragonboat would fill
// the disk, which ends the process.
type room struct {
	mu sync.Mutex
	// promised are the admitted snapshots that have yet to be written.
	promised map[*incomingSnapshot]struct{}
}

// incomingSnapshot is a snapshot that was admitted. Its fields are guarded by the room.
type incomingSnapshot struct {
	room  *room
	host  *Host
	group Group
	// file is how many bytes are yet to come, state how many the state that is built from
	// them will have.
	file, state uint64
	// size is that of the snapshot, about.
	size uint64
	// until is when the promise ends; zero while the snapshot is being received.
	until time.Time
}

// Admit implements transport.Receiver.
func (h *Host) Admit(ctx context.Context, s transport.Snapshot) (transport.Admission, error) {
	g := h.group(s.Shard)
	if g == nil {
		return nil, fmt.Errorf("there is no vBucket with the number %d here", s.Shard)
	}
	if s.Replica != g.Replica() {
		return nil, fmt.Errorf("replica %d of this vBucket is here, not %d", g.Replica(), s.Replica)
	}
	g.Committed(s.Index)
	look := time.NewTicker(roomInterval)
	defer look.Stop()
	for {
		if state := g.State(); state != replica.Starting && state != replica.Serving && state != replica.Restoring {
			return nil, fmt.Errorf("the replica takes no part in the log at present, it is %s", state)
		}
		in, err := h.room.promise(h, g, max(s.Size, leastSnapshot))
		if err == nil {
			g.Lacks(nil)
			return in, nil
		}
		g.Lacks(fmt.Errorf("a snapshot of about %d MiB from member %d does not fit: %w; free some space or enlarge the disk, it is taken when there is room",
			mebibytes(s.Size), s.From, err))
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Receiving returns how much has arrived of the snapshot that this host is receiving for a shard;
// zero for none.
func (h *Host) Receiving(shard uint64) (t replica.Transfer) {
	g := h.group(shard)
	h.room.mu.Lock()
	defer h.room.mu.Unlock()
	for in := range h.room.promised {
		if in.group == g && in.until.IsZero() {
			t = replica.Transfer{Bytes: in.size - in.file, Size: in.size}
		}
	}
	return t
}

func mebibytes(n uint64) uint64 { return (n + 1<<20 - 1) >> 20 }

// promise reserves room for a snapshot of a size, if there is enough.
func (m *room) promise(h *Host, g Group, size uint64) (*incomingSnapshot, error) {
	in := &incomingSnapshot{room: m, host: h, group: g, file: size, size: size}
	if g.OnDisk() {
		in.state = size
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// The log and other states grow meanwhile.
	if err := m.fits(in, in.file, size/16+state.OpenRoom); err != nil {
		return nil, err
	}
	if m.promised == nil {
		m.promised = make(map[*incomingSnapshot]struct{})
	}
	m.promised[in] = struct{}{}
	return in, nil
}

// fits returns an error if there is no room for so many bytes of in's file, for its state
// and for more bytes besides. The caller holds mu.
func (m *room) fits(in *incomingSnapshot, file, more uint64) error {
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
	log, states := in.host.opts.Guard, in.group.Guard()
	if log == nil { // the log is on the disk of the states
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

// More implements transport.Admission: the disk may have filled meanwhile.
func (in *incomingSnapshot) More(n int) error {
	in.room.mu.Lock()
	defer in.room.mu.Unlock()
	if err := in.room.fits(in, max(in.file, uint64(n)), 0); err != nil {
		return fmt.Errorf("the disk has become too full for it: %w", err)
	}
	in.file -= min(in.file, uint64(n))
	return nil
}

// Done implements transport.Admission. The state has yet to be built if it is whole.
func (in *incomingSnapshot) Done(whole bool) {
	in.room.mu.Lock()
	defer in.room.mu.Unlock()
	if in.file = 0; !whole {
		delete(in.room.promised, in)
		return
	}
	in.until = time.Now().Add(takenUpWithin)
}

// TakenUp ends the promises to a group that has built, or has failed to build, its state
// from a snapshot.
func (h *Host) TakenUp(g Group) {
	m := &h.room
	m.mu.Lock()
	defer m.mu.Unlock()
	for in := range m.promised {
		if in.group == g && !in.until.IsZero() {
			delete(m.promised, in)
		}
	}
}
