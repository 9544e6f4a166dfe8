package transport

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
)

// limiting is a message by which a follower says how much of its log it has in memory.
func limiting(bytes uint64) raftpb.MessageBatch {
	b := batch(1, 1)
	b.Requests = []raftpb.Message{{Type: raftpb.RateLimit, ShardID: 1, From: 1, To: 2, Term: 3, Hint: bytes}}
	return b
}

func TestLeaderIsNotToldOfAReplicaThatCatchesUp(t *testing.T) {
	from, to := start(t), start(t)
	if err := from.connect(t.Context(), to.addr).SendMessageBatch(limiting(64 << 20)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the message has come", func() bool { return len(to.messages()) == 1 })
	if m := to.messages()[0]; m.Type != raftpb.RateLimit || m.Hint != 0 {
		t.Errorf("%v has come, which stops all writers", m)
	}
}

func TestLeaderIsToldOfAReplicaThatStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f full
		said := func(bytes uint64) uint64 {
			b := limiting(bytes)
			f.calm(b)
			return b.Requests[0].Hint
		}
		for i := range 2 {
			for range fullFor / time.Second {
				if got := said(5); got != 0 {
					t.Errorf("round %d: %d is said", i, got)
				}
				time.Sleep(time.Second)
			}
			if got := said(7); got != 7 {
				t.Errorf("round %d: %d is said when it has lasted", i, got)
			}
			if got := said(0); got != 0 {
				t.Errorf("round %d: %d is said of none", i, got)
			}
		}
	})
}
