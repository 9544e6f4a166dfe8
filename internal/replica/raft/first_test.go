package raft

import (
	"fmt"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/timing"
)

// TestFirstElectionDoesNotWait: members of a new log have no leader for which to wait an
// election's time. A member may be slow to start on a busy machine, so there are several
// attempts.
func TestFirstElectionDoesNotWait(t *testing.T) {
	slow := timing.Timing{RTT: 100 * time.Millisecond, Election: 100, Heartbeat: 2, Lease: 80 * time.Millisecond}
	var took []time.Duration
	for i := range 4 {
		t.Run(fmt.Sprint("attempt ", i), func(t *testing.T) {
			begin := time.Now()
			c := newCluster(t, 3, func(c *cluster) { c.timing = map[uint64]timing.Timing{1: slow, 2: slow, 3: slow} })
			c.put("k", "v")
			took = append(took, time.Since(begin))
		})
		if len(took) > 0 && took[len(took)-1] < time.Duration(slow.Election)*slow.RTT {
			return
		}
	}
	t.Errorf("the first writes took %v, as long as elections without a cause", took)
}

// TestTurnsOfTheFirstElection: each member has a turn of its own, and the first is another one
// in each log.
func TestTurnsOfTheFirstElection(t *testing.T) {
	members := map[uint64]string{1: "a", 2: "b", 3: "c"}
	for shard := uint64(1); shard <= 4; shard++ {
		turns := make(map[int]uint64)
		for id := range members {
			r := &Replica{raft: Options{Shard: shard, Replica: id, Members: members}}
			turns[r.turnOfFirst()] = id
		}
		if want := (shard-1)%3 + 1; len(turns) != 3 || turns[0] != want {
			t.Errorf("log %d: %v, and the first should be %d", shard, turns, want)
		}
	}
}
