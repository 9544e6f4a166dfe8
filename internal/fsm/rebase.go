package fsm

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Inspect returns the ids and the index of the state in an engine that no
// machine has open.
func Inspect(engine storage.Engine) (Identity, kv.Index, error) {
	raw, found, err := engine.Get(storage.Meta, keyIdentity)
	if err != nil {
		return Identity{}, 0, err
	}
	if !found {
		return Identity{}, 0, fmt.Errorf("%w: there is no identity record", storage.ErrCorrupt)
	}
	id, err := decodeIdentity(raw)
	if err != nil {
		return Identity{}, 0, err
	}
	st, err := readState(engine)
	return id, st.applied, err
}

// Rebase makes the state in engine, which no machine has open, the start of a
// new history of the given cluster: no old change number is valid in it, its index
// is at least the given one, and mutations are refused or not as paused says. Its
// log is a new one, and it has no lineage before KeepLineage. The requests that the state remembers stay so, unless
// KeepRequests puts others in their place.
func Rebase(engine storage.Engine, cluster string, index kv.Index, paused bool) error {
	st, err := readState(engine)
	if err != nil {
		return fmt.Errorf("rebase: %w", err)
	}
	if err := clearSpace(engine, storage.Changelog, storage.Range{}); err != nil {
		return fmt.Errorf("rebase: drop the changelog: %w", err)
	}
	st.applied = max(st.applied, index)
	st.logged, st.paused = 0, paused
	var b storage.Batch
	b.Delete(storage.Meta, keyLineage)
	b.Put(storage.Meta, keyIdentity, Identity{Cluster: cluster, History: NewID()}.append(nil))
	b.Put(storage.Meta, keyFloor, changelog.Key(st.applied+1))
	return beginLog(engine, &b, st)
}

// KeepRequests makes the requests that are remembered in engine, which no machine
// has open, those of m, to which nothing is applied meanwhile: a retry of one that
// was acknowledged before the keyspace was replaced is no new request. If m
// remembers none, as on a new node, those in engine stay. It is not durable yet.
func (m *Machine) KeepRequests(ctx context.Context, engine storage.Engine) error {
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if m.requests.Empty() {
		return nil
	}
	return requests.Copy(ctx, m.engine, engine)
}

// KeepClock makes the log's clock of the state in engine, which no machine has open,
// the one given. It is not durable yet.
func KeepClock(engine storage.Engine, clock kv.Clock) error {
	st, err := readState(engine)
	if err != nil {
		return fmt.Errorf("keep the log's clock: %w", err)
	}
	st.clock = clock
	var b storage.Batch
	b.Put(storage.Meta, keyState, st.append(nil))
	if err := engine.Write(&b, false); err != nil {
		return fmt.Errorf("keep the log's clock: %w", err)
	}
	return nil
}

// Continue makes the state in engine, which no machine has open, the start of a
// new log, with its history, changes and requests: the log's first entry is the
// next change.
func Continue(engine storage.Engine) error {
	st, err := readState(engine)
	if err != nil {
		return fmt.Errorf("continue in a new log: %w", err)
	}
	return beginLog(engine, new(storage.Batch), st)
}

// beginLog writes b and st as the base of a log in which terms start over, and
// with them epochs, replica ids, formats and timing.
func beginLog(engine storage.Engine, b *storage.Batch, st state) error {
	if err := clearSpace(engine, storage.Meta, storage.Prefix(prefixMember)); err != nil {
		return fmt.Errorf("drop the old log's members: %w", err)
	}
	if err := clearSpace(engine, storage.Meta, storage.Prefix(prefixStaged)); err != nil {
		return fmt.Errorf("drop what a restore has staged: %w", err)
	}
	st.epoch = command.Epoch{}
	b.Delete(storage.Meta, keyRestoring)
	b.Delete(storage.Meta, keyFormat)
	b.Delete(storage.Meta, keyTiming)
	b.Put(storage.Meta, keyState, st.append(nil))
	b.Put(storage.Meta, keyBase, changelog.Key(st.applied))
	if err := engine.Write(b, true); err != nil {
		return fmt.Errorf("begin a new log: %w", err)
	}
	return nil
}

// clearSpace deletes the keys of a range, a bounded batch at a time.
func clearSpace(engine storage.Engine, space storage.Space, r storage.Range) error {
	r.KeysOnly, r.Bulk = true, true
	it := engine.Iterate(space, r)
	defer it.Close()
	var b storage.Batch
	for it.Next() {
		b.Delete(space, it.Key())
		if b.Count() < trimStep {
			continue
		}
		if err := engine.Write(&b, false); err != nil {
			return err
		}
		b.Reset()
	}
	if err := it.Err(); err != nil {
		return err
	}
	return engine.Write(&b, false)
}
