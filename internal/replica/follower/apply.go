package follower

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

var (
	// ErrMoved means that changes do not continue from the state's index: it may have been
	// reopened at an earlier one. Nothing was applied.
	ErrMoved = errors.New("the changes do not continue from the state")
	// ErrOlder means that a new state is older than the one that it was to
	// replace, by their indexes.
	ErrOlder = errors.New("the new state is older than the present one")
	// ErrWithdrawn means that the order to replace the present state was withdrawn.
	ErrWithdrawn = errors.New("the order to replace the state was withdrawn")
)

// Position returns the identity of the state and its index. Both are zero if there is no
// state yet.
func (f *Replica) Position() (fsm.Identity, kv.Index) {
	m := f.state.Machine()
	return m.Identity(), m.Applied()
}

// LastChange returns the newest change that the changelog holds, and whether there
// is one; see fsm.Machine.LastChange.
func (f *Replica) LastChange(ctx context.Context) (c kv.Change, found bool, err error) {
	_, err = f.state.With(ctx, func(m *fsm.Machine) (err error) {
		c, found, err = m.LastChange()
		return err
	})
	return c, found, err
}

// Fits returns an error that wraps storage.ErrNoSpace if the disk has no room for so many
// bytes.
func (f *Replica) Fits(bytes uint64) error { return f.opts.Guard.Fits(bytes) }

// Size is about how many bytes the state takes on the disk, without the changes that are
// retained, which a snapshot leaves out.
func (f *Replica) Size() uint64 {
	u := f.state.Usage()
	return u.Size()
}

// Apply brings the state, which must be at index after (else ErrMoved), to index upTo: by
// changes, in order, which are all that those above after and up to upTo did. An error that
// wraps storage.ErrNoSpace means that the disk has no room at present. After any error
// Position returns how far the state has come.
func (f *Replica) Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	return f.apply(ctx, "", after, changes, upTo)
}

// apply is Apply for the promotion that has sealed the state; empty if none has.
func (f *Replica) apply(ctx context.Context, promotion string, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	for len(changes) > 0 || after < upTo {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, size := f.stretch(changes)
		end := upTo
		if n < len(changes) {
			end = changes[n-1].Index
		}
		if err := f.applyStretch(promotion, after, changes[:n], end, size); err != nil {
			return err
		}
		after, changes = end, changes[n:]
	}
	return nil
}

// stretch returns how many of changes go into one engine batch, and the size of
// their keys and values.
func (f *Replica) stretch(changes []kv.Change) (n, size int) {
	bytes, ops := 0, 0
	for ; n < min(len(changes), changelog.BatchChanges); n++ {
		moreBytes, moreOps := fsm.ReplicaCost(&changes[n])
		if n > 0 && (bytes+moreBytes > changelog.BatchBytes || !f.limit.Allows(bytes+moreBytes, ops+moreOps)) {
			break
		}
		bytes, ops = bytes+moreBytes, ops+moreOps
		for i := range changes[n].Mutations {
			size += len(changes[n].Mutations[i].Key) + len(changes[n].Mutations[i].Value)
		}
	}
	return n, size
}

func (f *Replica) applyStretch(promotion string, after kv.Index, changes []kv.Change, upTo kv.Index, size int) error {
	f.seal.mu.Lock()
	defer f.seal.mu.Unlock()
	if err := f.seal.admits(promotion); err != nil {
		return err
	}
	m := f.state.Machine()
	if st := f.state.Standing(); st.Refusal != nil {
		return st.Refusal
	}
	if at := m.Applied(); at != after {
		return fmt.Errorf("%w: they follow index %d, and it is at %d", ErrMoved, after, at)
	}
	if err := f.holds(m, changes); err != nil {
		return kv.Errorf(kv.Precondition, "%w", err)
	}
	if err := f.opts.Guard.Admit(size, false); err != nil {
		return kv.Errorf(replica.KindOf(err), "%w", err)
	}
	before := m.Clock()
	err := f.replicate(m, changes, upTo)
	if m.Clock() < before {
		f.opts.Clock.Reset(m.Clock().Time()) // the master's was set
	}
	if err != nil {
		if !leftUntouched(err) {
			f.fail(err)
		}
		return kv.Errorf(replica.KindOf(err), "apply changes: %w", err)
	}
	f.state.Advance(m.Applied())
	return nil
}

// holds returns an error for a key that the engine cannot store, as a master with another
// engine may have. Then nothing is applied, and nothing has failed.
func (f *Replica) holds(m *fsm.Machine, changes []kv.Change) error {
	for i := range changes {
		for j := range changes[i].Mutations {
			if err := f.limit.CheckKey(changes[i].Mutations[j].Key); err != nil {
				return fmt.Errorf("change %d cannot be kept in %s: %w; start this node with --db-engine rocksdb on an empty db-folder, or delete such keys on the master and empty the db-folder",
					changes[i].Index, m.EngineKind(), err)
			}
		}
	}
	return nil
}

// untouched are the errors after which nothing of the changes was written.
var untouched = []error{fsm.ErrDisorder, fsm.ErrUnread, fsm.ErrClosed, storage.ErrTooLarge}

func leftUntouched(err error) bool {
	return slices.ContainsFunc(untouched, func(cause error) bool { return errors.Is(err, cause) })
}

func (f *Replica) replicate(m *fsm.Machine, changes []kv.Change, upTo kv.Index) error {
	if len(changes) != 1 {
		return m.Replicate(changes, upTo, false)
	}
	if bytes, ops := fsm.ReplicaCost(&changes[0]); f.limit.Allows(bytes, ops) {
		return m.Replicate(changes, upTo, false)
	}
	if err := m.ReplicateLarge(changes[0], f.limit); err != nil {
		return err
	}
	return m.Replicate(nil, upTo, false)
}

// Load fills the empty engine that open opens. It calls open once, and only when it has
// data: to open an engine costs much more than an attempt that fails before. It does not
// close the engine.
type Load = func(ctx context.Context, open func() (storage.Engine, error)) error

// Replace makes the state that load puts into an empty engine the present one. The old one
// is read and kept until the new one is complete and durable: a crash at any point leaves
// one of the two. load's context also ends when the replica closes. A new state with a
// lower index than the present one is rejected with ErrOlder, whatever its history, unless
// older says that it may be older: an operator has ordered it, or the present one is set aside.
func (f *Replica) Replace(ctx context.Context, older bool, load Load) error {
	return f.replace(ctx, func(next state.Successor) error { return f.succeeds(next, older) }, load)
}

// ReplaceAsOrdered is Replace by a state that may be older, as an operator has ordered. If
// the order is withdrawn before the exchange, the present state stays: the error is
// ErrWithdrawn.
func (f *Replica) ReplaceAsOrdered(ctx context.Context, load Load) error {
	return f.replace(ctx, func(state.Successor) error {
		if _, is := f.Ordered(); !is {
			return ErrWithdrawn
		}
		return nil
	}, load)
}

// replace makes the state that load builds the present one, if admit lets it.
func (f *Replica) replace(ctx context.Context, admit func(state.Successor) error, load Load) error {
	done, ok := f.state.Begin()
	if !ok {
		return replica.ErrClosed
	}
	defer done()
	ctx, cancel := f.state.UntilClosing(ctx)
	defer cancel()
	if st := f.state.Standing(); st.State == replica.Failed {
		return st.Refusal
	}
	f.state.Become(replica.Bootstrapping, nil, replica.Serving)
	err := f.substitute(ctx, admit, load)
	switch {
	case errors.Is(err, durable.ErrUncertain):
		f.fail(err) // a restart finds the old or the new state
	case err == nil:
		// A new engine cures the failure of the old one.
		f.state.Become(replica.Serving, nil, replica.Bootstrapping, replica.Failed)
	case !f.empty():
		f.state.Become(replica.Serving, nil, replica.Bootstrapping)
	}
	return err
}

func (f *Replica) substitute(ctx context.Context, admit func(state.Successor) error, load Load) error {
	next, err := f.state.Aside(func(place string) (*fsm.Machine, error) { return f.load(ctx, place, load) })
	if err != nil {
		return err
	}
	unlock, err := f.state.LockState(ctx)
	if err != nil {
		return errors.Join(err, f.state.Drop(next))
	}
	defer unlock()
	f.seal.mu.Lock()
	defer f.seal.mu.Unlock()
	if err := errors.Join(f.seal.admits(""), admit(next)); err != nil {
		return errors.Join(err, f.state.Drop(next))
	}
	if id, at := f.Position(); id != next.Identity() || next.Applied() < at {
		// What is known about the old state, and was read from it, is of another log.
		f.fresh.forget()
		f.least.Store(0)
	}
	if err := f.state.TakeOver(next); err != nil {
		return err
	}
	f.order.Store(nil) // it concerned the old state
	return nil
}

// load builds a state in the folder place, which does not exist before fill opens the
// engine.
func (f *Replica) load(ctx context.Context, place string, fill Load) (*fsm.Machine, error) {
	var engine storage.Engine
	err := fill(ctx, func() (storage.Engine, error) {
		opened, err := f.opts.Open(place)
		if err == nil {
			engine = opened
		}
		return opened, err
	})
	switch {
	case engine == nil && err == nil:
		return nil, fmt.Errorf("%w: nothing was loaded", chunks.ErrBadSnapshot)
	case engine == nil:
		return nil, err
	case err != nil:
		return nil, errors.Join(err, engine.Close())
	}
	m, err := fsm.NewReplica(engine)
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	if m.Identity().History == "" {
		return nil, errors.Join(fmt.Errorf("%w: it has no history", chunks.ErrBadSnapshot), m.Close())
	}
	return m, nil
}

// succeeds returns ErrOlder if next must not replace the present state.
func (f *Replica) succeeds(next state.Successor, older bool) error {
	_, at := f.Position()
	if older || next.Applied() >= at {
		return nil
	}
	return fmt.Errorf("%w: it is at change %d, and here is %d", ErrOlder, next.Applied(), at)
}
