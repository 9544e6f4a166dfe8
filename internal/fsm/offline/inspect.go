// Package offline reads and changes the state in an engine that no fsm.Machine has open. It
// turns a state into the start of a new log or of a new history, as a restore, a promotion or
// the conversion of a standalone node needs it, and carries over what stays from the state
// that is replaced.
package offline

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrNoState is the error of an engine without a state: it is empty, or a part of its files is
// missing.
var ErrNoState = fmt.Errorf("%w: there is no identity record", storage.ErrCorrupt)

// Inspect returns the ids and the index of the state in an engine.
func Inspect(engine storage.Engine) (history.Identity, kv.Index, error) {
	id, found, err := layout.ReadIdentity(engine)
	if err == nil && !found {
		err = ErrNoState
	}
	if err != nil {
		return history.Identity{}, 0, err
	}
	st, err := layout.ReadState(engine)
	return id, st.Applied, err
}
