package slave

import (
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
)

// grant specifies which state may replace the copy.
type grant struct {
	// any admits every state, since there is nothing to lose.
	any bool
	// cluster and history are those that the state must have; an empty history admits any
	// of the cluster.
	cluster, history string
	// older admits a state whose index is below the copy's, as long as an operator's order
	// stands.
	older bool
	// well means that the copy can be followed: a lack of room ends the load instead of holding
	// it up.
	well bool
	// aside has the copy kept beside the new state, whose index may be below the copy's: numbers of
	// two promotions that began at the same one are no order.
	aside bool
}

// check returns why the state of a snapshot, of which first is the first chunk, must not
// replace the copy, which is of identity id at index at.
func (g grant) check(first *serverpb.SnapshotChunk, at kv.Index) error {
	their := history.Identity{Cluster: first.GetClusterId(), History: first.GetHistoryId()}
	switch {
	case g.any:
		return nil
	case their.Cluster != g.cluster || g.history != "" && their.History != g.history:
		return kv.Errorf(kv.Precondition, "the master's snapshot is of another history by now: %s", name(their, first.GetChangeNumber()))
	case !g.older && !g.aside && first.GetChangeNumber() < at:
		return kv.Errorf(kv.Precondition, "the master's snapshot is at change %d, and here is %d already", first.GetChangeNumber(), at)
	}
	return nil
}

// name returns the name of a state for logs and errors.
func name(id history.Identity, at kv.Index) string {
	return fmt.Sprintf("cluster %s, history %s, change %d", id.Cluster, id.History, at)
}
