package transport

import (
	"sync/atomic"
	"testing"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
)

// writing is a node whose log is on disk up to an entry.
func writing(t *testing.T, durable *atomic.Uint64) *node {
	t.Helper()
	return start(t, func(_ *node, o *Options) {
		o.Durable = func(uint64, uint64) uint64 { return durable.Load() }
	})
}

// brings is a message with an entry, which it says is committed.
func brings(index uint64) raftpb.MessageBatch {
	b := batch(index-1, 10)
	m := &b.Requests[0]
	m.Term, m.LogTerm, m.Commit, m.Entries[0].Term = 3, 2, index, 3
	return b
}

// messages are those that have come.
func (n *node) messages() (out []raftpb.Message) {
	for _, b := range n.received() {
		out = append(out, b.Requests...)
	}
	return out
}

func TestCommitWaitsForTheDisk(t *testing.T) {
	var durable atomic.Uint64
	durable.Store(9)
	from, to := writing(t, &durable), start(t)
	line := from.connect(t.Context(), to.addr)
	if err := line.SendMessageBatch(brings(10)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the entry has come", func() bool { return len(to.messages()) == 1 })
	if m := to.messages()[0]; m.Commit != 9 || len(m.Entries) != 1 || m.LogIndex != 9 {
		t.Errorf("%v has come, want the entry without that it is committed", m)
	}
	durable.Store(10)
	testkit.Eventually(t, "the rest has come", func() bool { return len(to.messages()) == 2 })
	m := to.messages()[1]
	if m.Type != raftpb.Replicate || m.Commit != 10 || m.LogIndex != 10 || m.LogTerm != 3 || m.Term != 3 || m.From != 1 || m.To != 2 || m.ShardID != 1 || len(m.Entries) != 0 {
		t.Errorf("%v has come, want that entry 10 is committed", m)
	}
	if b := to.received()[1]; b.DeploymentId != deployment || b.SourceAddress == "" {
		t.Errorf("it came in %v", b)
	}
}

// What the next message says is not said twice, and entries on disk are not waited for.
func TestCommitOnDiskIsSaidAtOnce(t *testing.T) {
	var durable atomic.Uint64
	from, to := writing(t, &durable), start(t)
	line := from.connect(t.Context(), to.addr).(*messageLine)
	durable.Store(9)
	for index := range uint64(3) {
		if err := line.SendMessageBatch(brings(10 + index)); err != nil {
			t.Fatal(err)
		}
		durable.Store(10 + index)
	}
	testkit.Eventually(t, "all is said", func() bool {
		got := to.messages()
		return len(got) > 3 && got[len(got)-1].Commit == 12
	})
	for i, m := range to.messages()[:3] {
		if m.Commit > 9+uint64(i) {
			t.Errorf("%v was sent when entry %d was not on disk", m, m.Commit)
		}
	}
	line.mu.Lock()
	defer line.mu.Unlock()
	if n := len(line.owed.messages); n != 0 {
		t.Errorf("%d messages are kept", n)
	}
}

// A disk that hangs leaves it to Raft's heartbeats.
func TestOwedCommitIsGivenUp(t *testing.T) {
	var durable atomic.Uint64
	from, to := writing(t, &durable), start(t)
	line := from.connect(t.Context(), to.addr).(*messageLine)
	if err := line.SendMessageBatch(brings(10)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is kept no more", func() bool {
		line.mu.Lock()
		defer line.mu.Unlock()
		return len(line.owed.messages) == 0
	})
	if got := to.messages(); len(got) != 1 || got[0].Commit != 0 {
		t.Errorf("%v has come", got)
	}
}
