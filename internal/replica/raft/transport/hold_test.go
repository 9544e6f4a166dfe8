package transport

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
)

// says is a message that only says how far a log is committed, carries one with an entry.
func says(shard, commit uint64) raftpb.Message {
	return raftpb.Message{Type: raftpb.Replicate, ShardID: shard, From: 1, To: 2, Term: 1, LogIndex: commit, Commit: commit}
}

func carries(shard, commit uint64) raftpb.Message {
	m := says(shard, commit)
	m.Entries = []raftpb.Entry{{Index: commit + 1}}
	return m
}

// line is what goes through a hold, by a clock of its own.
type line struct {
	hold
	now  time.Time
	sent []raftpb.Message
}

func (l *line) send(messages ...raftpb.Message) (sent int) {
	out := l.take(l.now, messages)
	l.sent = append(l.sent, out...)
	l.hold.sent()
	return len(out)
}

// pass lets time go by, at the end of which what was held for too long is sent.
func (l *line) pass(d time.Duration) (late int) {
	l.now = l.now.Add(d)
	out, _ := l.overdue(l.now)
	l.sent = append(l.sent, out...)
	return len(out)
}

// warm makes commit indexes of a shard be held.
func (l *line) warm(shard uint64) {
	for i := range uint64(fewestQuick) {
		l.send(says(shard, i))
		l.pass(holdTime / 4)
		l.send(carries(shard, i))
		l.pass(holdTime / 4)
	}
}

func newLine() *line { return &line{now: time.Unix(1, 0)} }

func TestCommitIsSaidByTheNextEntries(t *testing.T) {
	l := newLine()
	l.warm(1)
	if len(l.sent) != 2*fewestQuick {
		t.Fatalf("%d messages were sent, want all %d of the first", len(l.sent), 2*fewestQuick)
	}
	if n := l.send(says(1, 10)); n != 0 {
		t.Errorf("%d messages were sent, want none: it is held", n)
	}
	if n := l.send(says(1, 11)); n != 0 {
		t.Errorf("%d messages were sent, want none: it replaces the one that is held", n)
	}
	if n := l.send(carries(1, 11)); n != 1 {
		t.Errorf("%d messages were sent, want the entries only, which say the commit index", n)
	}
}

func TestCommitThatIsNotSaidGoesFirst(t *testing.T) {
	heartbeat := raftpb.Message{Type: raftpb.Heartbeat, ShardID: 1, From: 1, To: 2, Term: 1}
	later := carries(1, 10)
	later.Term = 2
	older := carries(1, 9)
	other := carries(1, 10)
	other.To = 3
	for name, next := range map[string]raftpb.Message{
		"heartbeat": heartbeat, "entries of another log": carries(2, 10), "entries of a later term": later,
		"entries of an older commit index": older, "entries for another replica": other,
	} {
		l := newLine()
		l.warm(1)
		l.send(says(1, 10))
		before := len(l.sent)
		if n := l.send(next); n != 2 || l.sent[before].Commit != 10 || len(l.sent[before].Entries) != 0 {
			t.Errorf("%s: sent %v, want what was held and then this", name, l.sent[before:])
		}
	}
}

// What was sent is not kept by the buffer that it was put together in.
func TestSentEntriesAreNotKept(t *testing.T) {
	l := newLine()
	l.warm(1)
	l.send(says(1, 10))
	l.send(carries(2, 10))
	if cap(l.out) < 2 {
		t.Fatal("nothing was put together")
	}
	for _, m := range l.out[:cap(l.out)] {
		if m.Entries != nil {
			t.Error("entries are kept")
		}
	}
}

func TestCommitIsHeldForAMoment(t *testing.T) {
	l := newLine()
	l.warm(1)
	l.send(says(1, 10))
	if n := l.pass(holdTime - time.Microsecond); n != 0 {
		t.Errorf("%d messages before the time", n)
	}
	if _, left := l.overdue(l.now); left != time.Microsecond {
		t.Errorf("%v are left, want 1 us", left)
	}
	if n := l.pass(time.Microsecond); n != 1 || l.sent[len(l.sent)-1].Commit != 10 {
		t.Errorf("%d messages when the time was over, last %v", n, l.sent[len(l.sent)-1])
	}
	if n := l.pass(time.Hour); n != 0 {
		t.Errorf("%d messages were sent again", n)
	}
}

// A client whose next write waits until the followers have applied its last one must not be
// held up by each.
func TestHoldingInVainIsGivenUp(t *testing.T) {
	l := newLine()
	var late int
	const writes = 4000
	for i := range uint64(writes) {
		l.send(carries(1, i))
		l.pass(holdTime / 8)
		if l.send(says(1, i+1)) == 0 {
			late += l.pass(holdTime) // the client's next write comes only after it was sent
		}
		l.pass(holdTime / 8)
	}
	if late == 0 || late > 12 {
		t.Errorf("%d of %d were held in vain, want a few", late, writes)
	}
	// They are held again once entries follow by themselves.
	var saved int
	for i := range uint64(3 * mostQuick) {
		l.send(carries(1, i))
		l.pass(holdTime / 8)
		if l.send(says(1, i+1)) == 0 {
			saved++
		}
		l.pass(holdTime / 8)
	}
	if saved < mostQuick {
		t.Errorf("%d of %d were saved", saved, 3*mostQuick)
	}
}

// Whatever is sent when, it comes in order, and the greatest commit index comes in time.
func TestNothingIsLostByHolding(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := newLine()
		var commit [4]uint64
		var entries []raftpb.Message
		var due [4]time.Time // since when a commit index has not been sent
		var said [4]uint64
		note := func(from int) {
			for _, m := range l.sent[from:] {
				said[m.ShardID] = max(said[m.ShardID], m.Commit)
			}
			for shard := range due {
				if said[shard] == commit[shard] {
					due[shard] = time.Time{}
				} else if due[shard].IsZero() {
					due[shard] = l.now
				} else if age := l.now.Sub(due[shard]); age > holdTime {
					t.Fatalf("seed %d: commit index %d of log %d was not sent for %v", seed, commit[shard], shard, age)
				}
			}
		}
		for range 300 {
			var messages []raftpb.Message
			for range 1 + random.IntN(3) {
				shard := 1 + random.Uint64N(3)
				commit[shard] += random.Uint64N(2)
				if m := says(shard, commit[shard]); random.IntN(2) == 0 {
					messages = append(messages, m)
				} else {
					m = carries(shard, commit[shard])
					messages, entries = append(messages, m), append(entries, m)
				}
			}
			from := len(l.sent)
			l.send(messages...)
			note(from)
			from = len(l.sent)
			wait := time.Duration(random.Int64N(int64(holdTime)))
			if _, left := l.overdue(l.now); left > 0 && left < wait {
				l.pass(left) // the timer
				wait -= left
				note(from)
				from = len(l.sent)
			}
			l.pass(wait)
			note(from)
		}
		next := 0
		for _, m := range l.sent {
			if len(m.Entries) == 0 {
				continue
			}
			if m.ShardID != entries[next].ShardID || m.Commit != entries[next].Commit {
				t.Fatalf("seed %d: entries out of order", seed)
			}
			next++
		}
		if next != len(entries) {
			t.Fatalf("seed %d: %d of %d messages with entries were sent", seed, next, len(entries))
		}
	}
}

func TestHeldCommitsReachThePeer(t *testing.T) {
	a, b := start(t), start(t)
	to := a.connect(t.Context(), b.addr)
	send := func(m raftpb.Message) {
		t.Helper()
		frame := batch(1, 1)
		frame.Requests = []raftpb.Message{m}
		if err := to.SendMessageBatch(frame); err != nil {
			t.Fatal(err)
		}
	}
	came := func() (commit uint64) {
		for _, b := range b.received() {
			for _, m := range b.Requests {
				commit = max(commit, m.Commit)
			}
		}
		return commit
	}
	const rounds = 200
	for i := range uint64(rounds) {
		send(carries(1, i))
		send(says(1, i+1))
	}
	testkit.Eventually(t, "the last commit index comes by itself", func() bool { return came() == rounds })
	send(carries(1, rounds))
	send(says(1, rounds+1))
	to.Close() // what it holds is lost, as messages may be, and nothing is sent any more
}
