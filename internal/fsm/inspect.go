package fsm

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Inspect returns the ids and the index of the state in an engine that no machine has open.
func Inspect(engine storage.Engine) (Identity, kv.Index, error) {
	id, found, err := layout.ReadIdentity(engine)
	if err == nil && !found {
		err = fmt.Errorf("%w: there is no identity record", storage.ErrCorrupt)
	}
	if err != nil {
		return Identity{}, 0, err
	}
	st, err := layout.ReadState(engine)
	return id, st.Applied, err
}
