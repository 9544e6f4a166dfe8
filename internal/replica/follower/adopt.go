package follower

import (
	"context"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Adopt makes the state one of a history that promotions have begun since: see
// fsm.Machine.Adopt. It is durable. Its caller is that of Apply.
func (f *Replica) Adopt(history string, lineage []fsm.Former) error {
	f.seal.mu.Lock()
	defer f.seal.mu.Unlock()
	if err := f.seal.admits(""); err != nil {
		return err
	}
	if st := f.state.Standing(); st.Refusal != nil {
		return st.Refusal
	}
	m := f.state.Machine()
	if err := m.Adopt(history, lineage); err != nil {
		if !errors.Is(err, fsm.ErrElsewhere) && !leftUntouched(err) {
			f.fail(err)
		}
		return kv.Errorf(replica.KindOf(err), "%w", err)
	}
	f.state.Advance(m.Applied())
	f.opts.Changed.Raise()
	return nil
}

// SetAside has the present state's folder kept when another state replaces it, and returns
// the folder that it is moved to then; empty for a diskless state, of which nothing is left.
func (f *Replica) SetAside(ctx context.Context) (string, error) {
	if f.opts.Generations == nil {
		return "", nil
	}
	unlock, err := f.state.LockState(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	id, at := f.Position()
	folder, err := f.opts.Generations.SetAside(fmt.Sprintf("%s-%d", id.History, at))
	if err != nil {
		return "", kv.Errorf(replica.KindOf(err), "the copy cannot be set aside: %w", err)
	}
	return folder, nil
}
