package transport

import (
	"slices"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"
)

// A leader without other voters has an entry committed as soon as it has proposed it, and
// Dragonboat sends entries while they are being written. So the message that brings an entry says
// that it is committed, and a member without a vote would apply what the leader forgets if it
// ends before the entry is on its disk. With other voters a majority has acknowledged what is
// committed, and Dragonboat looks at that only after its own write.

const (
	// owedPause is how long a commit index that was taken back waits until it is looked at
	// again whether the entry is on disk. Each time that it is not doubles it. Beyond
	// mostOwedPause it is left to a heartbeat: the disk may hang.
	owedPause, mostOwedPause = time.Millisecond, 64 * time.Millisecond
)

// owed are commit indexes that have not been said yet, since this node's log does not have the
// entries on disk.
type owed struct {
	// messages say them, at most one of each log for each replica.
	messages []raftpb.Message
	timer    *time.Timer // nil until there was one
	pause    time.Duration
}

// takeBack has messages say that no more is committed than this node has on disk. The rest is
// said as soon as it has.
func (l *messageLine) takeBack(batch raftpb.MessageBatch) {
	if l.t.opts.Durable == nil {
		return
	}
	for i := range batch.Requests {
		m := &batch.Requests[i]
		if m.Type != raftpb.Replicate {
			continue // a heartbeat says no more than its receiver has acknowledged
		}
		if len(l.owed.messages) > 0 {
			l.owed.messages = slices.DeleteFunc(l.owed.messages, func(o raftpb.Message) bool { return replaces(m, &o) })
		}
		end := m.LogIndex + uint64(len(m.Entries))
		if last := l.t.opts.Durable(m.ShardID, m.From); min(m.Commit, end) > last {
			l.frame = batch
			l.frame.Requests = nil
			l.owe(commitOf(m, end))
			m.Commit = last
		}
	}
}

// replaces reports whether an earlier message about a commit index need not be sent any more.
func replaces(m, earlier *raftpb.Message) bool {
	return m.ShardID == earlier.ShardID && m.From == earlier.From && m.To == earlier.To &&
		(m.Term > earlier.Term || m.Term == earlier.Term && m.Commit >= earlier.Commit)
}

// commitOf is a message that only says how far the log is committed, to a replica that has
// received m, the last entry of which is end.
func commitOf(m *raftpb.Message, end uint64) raftpb.Message {
	out := raftpb.Message{
		Type: raftpb.Replicate, ShardID: m.ShardID, From: m.From, To: m.To, Term: m.Term,
		LogIndex: end, LogTerm: m.LogTerm, Commit: m.Commit,
	}
	if n := len(m.Entries); n > 0 {
		out.LogTerm = m.Entries[n-1].Term
	}
	return out
}

// owe keeps a message until its entries are on disk.
func (l *messageLine) owe(m raftpb.Message) {
	l.owed.messages = append(l.owed.messages, m)
	if len(l.owed.messages) > 1 {
		return // the timer runs
	}
	l.owed.pause = owedPause
	if l.owed.timer == nil {
		l.owed.timer = time.AfterFunc(owedPause, l.repay)
	} else {
		l.owed.timer.Reset(owedPause)
	}
}

// repay says what is on disk by now of what was taken back.
func (l *messageLine) repay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	var due []raftpb.Message
	l.owed.messages = slices.DeleteFunc(l.owed.messages, func(m raftpb.Message) bool {
		is := min(m.Commit, m.LogIndex) <= l.t.opts.Durable(m.ShardID, m.From)
		if is {
			due = append(due, m)
		}
		return is
	})
	switch l.owed.pause *= 2; {
	case l.owed.pause > mostOwedPause:
		l.owed.messages = nil
	case len(l.owed.messages) > 0:
		l.owed.timer.Reset(l.owed.pause)
	}
	l.late(due)
}
