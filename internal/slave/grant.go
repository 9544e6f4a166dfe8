package slave

import (
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// grant says which state may take the copy's place.
type grant struct {
	// any admits every state: there is nothing to lose.
	any bool
	// cluster and history are whose state it has to be; any history of the cluster where
	// that is empty.
	cluster, history string
	// back admits a state that is behind the copy.
	back bool
}

// check returns why the state that a snapshot begins with must not take the place of the
// copy, which is id's at index at.
func (g grant) check(first *serverpb.SnapshotChunk, at kv.Index) error {
	their := fsm.Identity{Cluster: first.GetClusterId(), History: first.GetHistoryId()}
	switch {
	case g.any:
		return nil
	case their.Cluster != g.cluster || g.history != "" && their.History != g.history:
		return kv.Errorf(kv.Precondition, "the master's snapshot is of another history by now: %s", name(their, first.GetChangeNumber()))
	case !g.back && first.GetChangeNumber() < at:
		return kv.Errorf(kv.Precondition, "the master's snapshot is at change %d, and here is %d already", first.GetChangeNumber(), at)
	}
	return nil
}

// name is how a state is called in logs and errors.
func name(id fsm.Identity, at kv.Index) string {
	return fmt.Sprintf("cluster %s, history %s, change %d", id.Cluster, id.History, at)
}
