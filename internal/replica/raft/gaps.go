package raft

import (
	"fmt"
	"sync"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/replica/raft/tail"
)

// entryLog is a log in which entries can be looked up.
type entryLog interface {
	// GetRange returns the first and the last entry that the log has.
	GetRange() (first, last uint64)
	tail.Entries
}

// logGaps are the stretches of the log that the state machine was not given. They may only
// contain entries of Dragonboat's own. An entry may be applied a moment before the log
// shows those before it, so a gap stays until it can be checked.
type logGaps struct {
	mu   sync.Mutex
	open []logGap
}

// logGap are the entries from low up to but not including high.
type logGap struct{ low, high uint64 }

func (g *logGaps) add(low, high uint64) {
	if low >= high {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = append(g.open, logGap{low, high})
}

// check searches the gaps for commands, and reports whether it could search all of them. It
// is an error if there is one.
func (g *logGaps) check(log entryLog) (all bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.open) > 0 {
		gap := g.open[0]
		first, last := log.GetRange()
		if gap.high-1 > last {
			return false, nil
		}
		// What is compacted was applied, or came with a snapshot.
		if missed, err := lastCommand(log, max(gap.low, first), gap.high); err != nil {
			return false, fmt.Errorf("log entries %d to %d: %w", gap.low, gap.high-1, err)
		} else if missed != 0 {
			return false, fmt.Errorf("log entry %d was never given to the state machine, which was then given entry %d", missed, gap.high)
		}
		g.open = g.open[1:]
	}
	return true, nil
}

// lastCommand returns the last entry from low up to but not including high that
// carries a command, 0 if none does.
func lastCommand(log entryLog, low, high uint64) (uint64, error) {
	for high > low {
		from := low
		if high-low > gapEntries {
			from = high - gapEntries
		}
		last := uint64(0)
		err := tail.Each(log, from, high, func(e *raftpb.Entry) error {
			if e.IsUpdateEntry() {
				last = e.Index
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		if last != 0 {
			return last, nil
		}
		high = from
	}
	return 0, nil
}

// gapEntries is how many entries lastCommand looks at, from the end of a stretch, before it
// looks further back.
const gapEntries = 64
