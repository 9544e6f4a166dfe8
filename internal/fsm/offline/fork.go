package offline

import (
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrDiverged means that a state is not the one with which a history ended.
var ErrDiverged = errors.New("the state does not belong to the log")

// Branch says where a promotion, or a recovery, ends a history and which one follows. All nodes that
// become masters get the same.
type Branch struct {
	// Former is the history that ends, and End its last index.
	Former string
	End    kv.Index
	// History is the one that begins.
	History string
	// Last is the index of a state that goes on behind End: by entries of which it is not known
	// whether the former history has them, at indexes of the one that begins, above End+era.Gap. It
	// is 0 of a state that ends at End.
	Last kv.Index
	// Clock is the log's clock at the state's index.
	Clock kv.Clock
	// Expired is ExpiredTotal of the promotion's founder. Slaves do not count it.
	Expired uint64
}

// Fork makes the state in engine the base of a new log and of the
// history that a promotion begins. It must be a state of the former history at its end, or at
// Last, or the error is ErrDiverged. It keeps the keyspace, the changes and the remembered requests
// (see ImportRequests). The log's own records, the list of slaves, a pause and a seal end. The
// result is durable. After a crash or an error Fork may be called again, also when it is done
// and the new log has begun.
func Fork(engine storage.Engine, to Branch) error {
	id, applied, err := Inspect(engine)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	lineage, err := layout.ReadLineage(engine)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	last := history.Former{History: to.Former, End: to.End}
	at, begins := to.End, to.End+era.Gap
	if to.Last != 0 {
		at, begins = to.Last, to.Last
	}
	switch {
	case begins < to.End+era.Gap:
		return fmt.Errorf("fork: index %d is not behind those that are skipped after index %d", to.Last, to.End)
	case to.Former == "" || to.History == "" || to.Former == to.History:
		return fmt.Errorf("fork: history %q cannot follow history %q", to.History, to.Former)
	case id.History == to.History && len(lineage) > 0 && lineage[len(lineage)-1] == last:
		return nil // done before
	case id.History != to.Former || applied != at:
		return fmt.Errorf("fork: %w: it is at index %d of history %q, and the promotion ends history %q at index %d",
			ErrDiverged, applied, id.History, to.Former, at)
	}
	if err := storage.Clear(engine, storage.Meta, storage.Prefix(layout.PrefixSlave)); err != nil {
		return fmt.Errorf("fork: drop the list of slaves: %w", err)
	}
	st, err := layout.ReadState(engine)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	st.Applied = begins
	st.Clock, st.Expired, st.Paused = to.Clock, to.Expired, false
	var b storage.Batch
	layout.PutIdentity(&b, history.Identity{Cluster: id.Cluster, History: to.History})
	layout.PutLineage(&b, history.After(last, lineage))
	return beginLog(engine, &b, st)
}
