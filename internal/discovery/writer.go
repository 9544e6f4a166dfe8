package discovery

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// changeKind is why something is written.
type changeKind uint8

const (
	// heard is a row that its node sent.
	heard changeKind = iota
	// aged is a row that has been silent for a part of the timeout, or is heard again
	// after that: the next owner continues counting from there.
	aged
	// lapsed is a row whose heartbeat timed out: it is stored as INACTIVE, so that
	// the next owner does not take its node for alive.
	lapsed
	// purged is a row that has been silent for too long.
	purged
	// leads is the history that leads a vBucket, forgotten that none does.
	leads
	forgotten
	// cutUp is the layout of a database, uncut that it has none.
	cutUp
	uncut
)

// change is one row to be written, or what leads a vBucket, or a database's layout.
type change struct {
	kind  changeKind
	key   rowKey
	info  *serverpb.RegionInfo // as it is sent, or last was
	stamp uint64
	age   age
}

// mutation returns what the change writes to the store.
func (c *change) mutation() (kv.Mutation, error) {
	m := kv.Mutation{Key: c.key.stored(), Delete: c.kind == purged || c.kind == forgotten || c.kind == uncut}
	if m.Delete {
		return m, nil
	}
	status := reportedBy(c.info)
	if c.kind == lapsed {
		status = serverpb.RegionStatus_INACTIVE
	}
	info := withStatus(c.info, status)
	if c.kind == aged && c.age != live {
		info = proto.CloneOf(info)
		info.SilentQuarters = uint32(c.age)
	}
	var err error
	m.Value, err = encodeRow(info)
	return m, err
}

// batch is the changes that are written together, one for each row. done is closed when
// they are; err is then nil if all were.
type batch struct {
	changes map[rowKey]change
	done    chan struct{}
	err     error
}

// stage passes a change to the writer. The newest one of a row counts, except that a
// timeout does not undo a heartbeat that came before it is written.
func (t *table) stage(c change) *batch {
	if t.ended != nil {
		b := &batch{done: make(chan struct{}), err: t.ended}
		close(b.done)
		return b
	}
	if t.open == nil {
		t.open = &batch{changes: make(map[rowKey]change), done: make(chan struct{})}
		t.opened.Raise()
	}
	if before, there := t.open.changes[c.key]; there && before.kind == heard &&
		(c.kind != heard || c.stamp != 0 && c.stamp+reordered < before.stamp) {
		return t.open
	}
	t.open.changes[c.key] = c
	return t.open
}

// unstage drops the age of a row that waits to be stored: a heartbeat was stored meanwhile,
// and the age would bring the row's former content back.
func (t *table) unstage(key rowKey) {
	if t.open == nil {
		return
	}
	if c, there := t.open.changes[key]; there && (c.kind == aged || c.kind == lapsed) {
		delete(t.open.changes, key)
	}
}

// take returns the open batch and closes it to changes; nil for none.
func (t *table) take() *batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.open
	t.open = nil
	return b
}

// endWrites fails the changes that wait to be written, and all later ones.
func (t *table) endWrites(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = err
	if t.open != nil {
		t.open.err = err
		close(t.open.done)
		t.open = nil
	}
}

const (
	// Bounds of one proposal: well below what any engine writes at once, and
	// enough that the log's latency does not matter.
	maxProposalRows  = 512
	maxProposalBytes = 256 << 10
	// proposalTimeout bounds the wait for one.
	proposalTimeout = 5 * time.Second
)

// write stores batches until ctx ends.
func (t *table) write(ctx context.Context, store Store) {
	for {
		opened := t.opened.Changed()
		if b := t.take(); b != nil {
			b.err = t.writeBatch(ctx, store, b)
			close(b.done)
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return
		}
	}
}

// writeBatch stores a batch in as many proposals as it takes, each of which is
// shown as soon as it is stored.
func (t *table) writeBatch(ctx context.Context, store Store, b *batch) error {
	changes := make([]change, 0, len(b.changes))
	for _, c := range b.changes {
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b change) int { return a.key.compare(b.key) })
	var failed error
	for len(changes) > 0 && failed == nil {
		mutations, n, err := proposal(changes)
		if err == nil {
			err = propose(ctx, store, mutations)
		}
		if err != nil {
			failed = err
			break
		}
		t.applyAll(changes[:n])
		changes = changes[n:]
	}
	t.giveBack(changes)
	return failed
}

// proposal encodes as many changes as one proposal takes, at least one.
func proposal(changes []change) (mutations []kv.Mutation, n int, err error) {
	bytes := 0
	for n < len(changes) && n < maxProposalRows {
		m, err := changes[n].mutation()
		if err != nil {
			return nil, 0, kv.Errorf(kv.Internal, "encode the row of node %s: %w", changes[n].key.node, err)
		}
		if bytes += len(m.Key) + len(m.Value); n > 0 && bytes > maxProposalBytes {
			break
		}
		mutations = append(mutations, m)
		n++
	}
	return mutations, n, nil
}

func propose(ctx context.Context, store Store, mutations []kv.Mutation) error {
	ctx, cancel := context.WithTimeout(ctx, proposalTimeout)
	defer cancel()
	res, err := store.Propose(ctx, &command.Command{Kind: command.Write, Mutations: mutations})
	switch {
	case err != nil:
		return err
	case res.Code != command.OK:
		return kv.Errorf(kv.Unavailable, "the registry's log does not accept changes at the moment: %v; retry later", res.Code)
	default:
		return nil
	}
}

func (t *table) applyAll(changes []change) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range changes {
		t.apply(&changes[i], now)
	}
}

// giveBack undoes what was done for changes that could not be stored. A node sends its
// heartbeat again; the rest is tried again.
func (t *table) giveBack(changes []change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range changes {
		key := changes[i].key
		d, r := t.databases[key.database], t.rows[key]
		switch kind := changes[i].kind; {
		case kind == forgotten || kind == purged && r == nil:
			t.owed[key] = changes[i]
		case d == nil:
		case kind == cutUp || kind == uncut:
			d.unstored = true
		case kind == leads:
			if g := d.groups[key.vBucket]; g != nil {
				g.awaited = false
				t.owed[key] = changes[i]
			}
		case r == nil:
		case r.fresh && kind == heard:
			t.remove(r)
		case (kind == heard || kind == purged) && r.silent() && r.queued == nil && !r.fresh:
			r.queued = t.queues[silent].PushFront(r)
		case kind == aged || kind == lapsed:
			t.unstored[r] = struct{}{}
		}
		if r != nil && changes[i].kind == heard {
			t.unclaim(r.group) // also if the row was known, and is of a cluster only now
		}
	}
}
