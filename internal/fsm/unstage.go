package fsm

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/storage"
)

// Unstaged says how many pairs Unstage has written into an engine, and how many of them
// expire.
type Unstaged struct{ Pairs, Expiring uint64 }

// Unstage copies the staged pairs of a view into the keyspace of an empty engine. This is the
// long part of an EndRestore, and may be done before it. All pairs must be staged; see
// Sealed.
func (v *View) Unstage(ctx context.Context, target storage.Engine) (out Unstaged, err error) {
	fill := chunks.NewFiller(target)
	err = v.eachStaged(ctx, func(key, stored []byte, expireTS uint64) error {
		out.Pairs++
		if expireTS != 0 {
			out.Expiring++
		}
		return fill.Put(storage.Data, key, stored)
	})
	if err == nil {
		err = fill.Finish()
	}
	if err == nil && out.Expiring > 0 {
		err = v.unstageExpiry(ctx, target)
	}
	return out, err
}

// unstageExpiry writes the expiry index of the pairs. Its keys are not in the order of the
// pairs, so they cannot be part of a bulk load.
func (v *View) unstageExpiry(ctx context.Context, target storage.Engine) error {
	var b storage.Batch
	var scratch []byte
	err := v.eachStaged(ctx, func(key, _ []byte, expireTS uint64) error {
		if expireTS == 0 {
			return nil
		}
		scratch = layout.AppendExpiryKey(scratch[:0], expireTS, key)
		b.Put(storage.Expiry, scratch)
		if b.Size() < chunks.FillStep {
			return nil
		}
		defer b.Reset()
		return target.Write(&b, false)
	})
	if err != nil {
		return err
	}
	return target.Write(&b, false)
}

// Restored completes the state that an EndRestore at a log entry makes of this one, in an
// engine that holds what Unstage has written and nothing else: the staged pairs under a new
// history. Since the log continues, epoch, members, slaves, requests, pause, format, timing
// and standbys stay. The current state does not change. The result is durable, and its index is above any
// index that either state had.
func (m *Machine) Restored(ctx context.Context, e Entry, target storage.Engine, staged Unstaged) error {
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	b, err := m.restoredMeta(ctx, e, target, staged)
	if err == nil {
		err = target.Write(b, true)
	}
	if err == nil {
		err = target.Sync()
	}
	if err != nil {
		return fmt.Errorf("restore at index %d: %w", e.Index, err)
	}
	return nil
}

// restoredMeta returns what a restored state has besides its pairs, except for the remembered
// requests, which it writes into target.
func (m *Machine) restoredMeta(ctx context.Context, e Entry, target storage.Engine, staged Unstaged) (*storage.Batch, error) {
	if want := e.Command.Restored.Pairs; staged.Pairs != want {
		return nil, fmt.Errorf("%w: %d pairs are staged, and the restore has %d", storage.ErrCorrupt, staged.Pairs, want)
	}
	slaves, err := m.Slaves()
	if err == nil {
		err = m.KeepRequests(ctx, target)
	}
	if err != nil {
		return nil, err
	}
	st := m.state
	st.Applied = max(e.Index, e.Command.Restored.Index+1)
	st.Expiring, st.Logged = staged.Expiring, 0
	b := new(storage.Batch)
	for id, record := range m.Members() {
		b.Put(storage.Meta, layout.MemberKey(id), record)
	}
	layout.PutSlaves(b, slaves)
	if format := m.Format(); format != command.FirstFormat {
		layout.PutFormat(b, format)
	}
	layout.PutOpaque(b, layout.KeyTiming, m.timing.Load())
	layout.PutOpaque(b, layout.KeyStandbys, m.standbys.Load())
	id := Identity{Cluster: m.Identity().Cluster, History: e.Command.Restored.History}
	layout.PutIdentity(b, id)
	layout.PutLineage(b, m.successorLineage())
	b.Put(storage.Meta, layout.KeyFloor, changelog.Key(st.Applied+1))
	b.Put(storage.Meta, layout.KeyState, st.Append(nil))
	// If the restored state's index was higher, the same log entries have higher indexes
	// from here on.
	b.Put(storage.Meta, layout.KeyBase, changelog.Key(m.base+st.Applied-e.Index))
	return b, nil
}

// eachStaged calls yield for each staged pair in the order of the keys, until yield returns an
// error. The arguments are valid until yield returns.
func (v *View) eachStaged(ctx context.Context, yield func(key, stored []byte, expireTS uint64) error) error {
	r := storage.Prefix(layout.PrefixStaged)
	r.Bulk = true
	it := v.walk(storage.Meta, r)
	defer it.close()
	for n := 0; it.next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		key := it.key[len(layout.PrefixStaged):]
		_, expireTS, err := layout.SplitData(it.value)
		if err != nil {
			return v.m.note(fmt.Errorf("staged key %q: %w", key, err))
		}
		if err := yield(key, it.value, expireTS); err != nil {
			return err
		}
	}
	return v.m.note(it.err)
}
