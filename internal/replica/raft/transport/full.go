package transport

import (
	"sync"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"
)

// fullFor is for how long a replica may have more of its log in memory than it should before its leader
// is told. Dragonboat's leader then rejects everything, for eleven times of an election however soon the
// replica has less: a member that only catches up after a restart would stop all writers for longer
// than it takes.
const fullFor = 10 * time.Second

// full is since when replicas of this host have had too much of their logs in memory, by shard.
type full struct {
	mu    sync.Mutex
	since map[uint64]time.Time
}

// calm has messages to leaders say nothing of what has not lasted for long.
func (f *full) calm(batch raftpb.MessageBatch) {
	for i := range batch.Requests {
		if m := &batch.Requests[i]; m.Type == raftpb.RateLimit && f.isShort(m.ShardID, m.Hint > 0) {
			m.Hint = 0
		}
	}
}

// isShort notes whether a replica has too much in memory now, and reports whether that has not lasted.
func (f *full) isShort(shard uint64, is bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !is {
		delete(f.since, shard)
		return true
	}
	since, was := f.since[shard]
	if !was {
		if f.since == nil {
			f.since = make(map[uint64]time.Time)
		}
		since = time.Now()
		f.since[shard] = since
	}
	return time.Since(since) < fullFor
}
