package raft

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// What the lease assumes of the log's library (A1 and A3 in lease/DESIGN.md) is tested
// here against the library itself, by what its hosts say to each other and to this
// process. Each test is also shown a library that breaks the assumption.

// elections are the moments at which leaders were first seen to lead, by term: they had
// won their elections by then.
type elections struct {
	mu    sync.Mutex
	seen  map[uint64]time.Time
	reads int // ReadIndexes that a leader answered for another replica
}

// watchElections watches what the leaders of a cluster say.
func (c *cluster) watchElections() *elections {
	e := &elections{seen: make(map[uint64]time.Time)}
	c.net.watch(e.note)
	return e
}

func (e *elections) note(_, _ string, m *raftpb.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch m.Type {
	case raftpb.Replicate, raftpb.Heartbeat: // only leaders send these
		if _, known := e.seen[m.Term]; !known {
			e.seen[m.Term] = time.Now()
		}
	case raftpb.ReadIndexResp:
		e.reads++
	}
}

// count returns how many terms have had a leader.
func (e *elections) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.seen)
}

// before returns the terms above one whose leaders led before a time.
func (e *elections) before(t time.Time, above uint64) []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []uint64
	for term, at := range e.seen {
		if term > above && at.Before(t) {
			out = append(out, term)
		}
	}
	slices.Sort(out)
	return out
}

// breach is an assumption that did not hold.
type breach struct {
	what       string
	term       uint64
	at         uint64 // the replica
	laterTerms []uint64
}

// assumptions looks at members for breaches.
type assumptions struct {
	c     *cluster
	seen  *elections
	leads func(n *node) (id, term uint64)

	mu            sync.Mutex
	breaches      []breach
	confirmations int
	later         int // states with an epoch that was begun in a later term than the last led
}

func (a *assumptions) found(b breach) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.breaches = append(a.breaches, b)
}

// confirmed does what a lease is renewed by: a ReadIndex, with a look at the leader before
// and after it. If both looks say that this member leads, no leader of a higher term has
// been elected before it began (A1), nor has one answered it (A3). Members that do not lead
// ask too: their questions are under way, and answered by others, when they begin to.
func (a *assumptions) confirmed(ctx context.Context, n *node) {
	id, term := a.leads(n)
	begun := time.Now()
	attempt, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if (group{n.Replica}).ReadIndex(attempt) != nil || id != n.id {
		return
	}
	if id, now := a.leads(n); id != n.id || now != term {
		return
	}
	a.mu.Lock()
	a.confirmations++
	a.mu.Unlock()
	if later := a.seen.before(begun, term); len(later) > 0 {
		a.found(breach{"a ReadIndex is confirmed although others were elected before it", term, n.id, later})
	}
}

// applied looks at a state and then at the leader: one that has applied a BEGIN of a later
// term does not lead an earlier one (A3).
func (a *assumptions) applied(n *node) {
	epoch := n.state.Machine().Epoch()
	id, term := a.leads(n)
	if id == n.id && epoch.Term > term {
		a.found(breach{"it says that it leads although it has applied another's epoch", term, n.id, []uint64{epoch.Term}})
	}
	if id != n.id && epoch.Owner != n.id {
		a.mu.Lock()
		a.later++
		a.mu.Unlock()
	}
}

// run looks until stop is called.
func (a *assumptions) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range a.c.nodes {
		for _, look := range []func(){func() { a.confirmed(ctx, n) }, func() { a.applied(n) }} {
			wg.Go(func() {
				for ctx.Err() == nil {
					look()
					time.Sleep(100 * time.Microsecond) // the others have to run, too
				}
			})
		}
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	a.c.t.Cleanup(stop)
	return stop
}

// disturb has the leadership move several times: by transfers, and by cutting the leader
// off until there is another one.
func (a *assumptions) disturb(rounds int) {
	for round := range rounds {
		was := a.leader()
		terms := a.seen.count()
		moved := func() bool { return a.seen.count() > terms }
		if round%3 == 2 {
			testkit.Eventually(a.c.t, "a transfer", func() bool {
				_ = was.TransferLeader(context.Background(), 0) // or it is tried again
				return moved()
			})
			continue
		}
		a.c.net.isolate(was.addr, true)
		testkit.Eventually(a.c.t, "another leader", moved)
		a.c.net.isolate(was.addr, false)
	}
	a.leader()
}

// leader waits until a member owns the log in the latest term that has had a leader: a
// former one may still take itself for the owner.
func (a *assumptions) leader() (found *node) {
	testkit.Eventually(a.c.t, "an owner in the latest term", func() bool {
		for _, n := range a.c.nodes {
			if term := n.keeper.Stats().Term; term != 0 && len(a.seen.before(time.Now(), term)) == 0 {
				found = n
			}
		}
		return found != nil
	})
	return found
}

// TestEngineConfirmsNoFormerLeader: through transfers and cuts, the log's library keeps to
// what leases rest on.
func TestEngineConfirmsNoFormerLeader(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.net = newNetwork() })
	a := &assumptions{c: c, seen: c.watchElections(), leads: func(n *node) (uint64, uint64) { return n.leads() }}
	stop := a.run()
	a.disturb(9)
	stop()
	for _, b := range a.breaches {
		t.Errorf("%+v", b)
	}
	t.Logf("%d elections, %d confirmations, %d ReadIndexes answered by others, %d looks at states of other owners",
		a.seen.count(), a.confirmations, a.seen.reads, a.later)
	if a.confirmations == 0 || a.seen.reads == 0 || a.later == 0 || a.seen.count() < 9 {
		t.Error("too little happened for the test to say anything")
	}
}

// TestEngineTestsNoticeALateLeader: the tests above fail if the library says for a while
// longer that a former leader leads.
func TestEngineTestsNoticeALateLeader(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.net = newNetwork() })
	type said struct {
		term  uint64
		until time.Time
	}
	var mu sync.Mutex
	last := make(map[uint64]said)
	late := func(n *node) (id, term uint64) {
		mu.Lock()
		defer mu.Unlock()
		if id, term = n.leads(); id == n.id {
			last[n.id] = said{term, time.Now().Add(300 * time.Millisecond)}
		} else if s := last[n.id]; time.Now().Before(s.until) {
			return n.id, s.term
		}
		return id, term
	}
	a := &assumptions{c: c, seen: c.watchElections(), leads: late}
	kinds := make(map[string]int)
	for round := 0; round < 10 && len(kinds) < 2; round++ { // on a busy machine one may not be enough
		stop := a.run()
		a.disturb(6)
		stop()
		for _, b := range a.breaches {
			kinds[b.what]++
		}
	}
	t.Logf("breaches: %v", kinds)
	if len(kinds) != 2 {
		t.Error("not both assumptions were found broken")
	}
}

// confirmation is what TestEngineIgnoresOldAnswers found.
type confirmation struct {
	confirmed bool
	later     []uint64 // terms whose leaders led before the ReadIndex began
}

// staleAnswers has a leader that is cut off ask for a confirmation after another one was
// elected, and gives it followers' answers to its earlier heartbeats; with forged ones,
// they are made out to be answers to the present question.
func staleAnswers(t *testing.T, forged bool) confirmation {
	c := newCluster(t, 3, func(c *cluster) {
		c.timing = map[uint64]timing.Timing{1: slowTiming} // it does not give up soon
		c.net = newNetwork()
	})
	slow := c.nodes[0]
	c.lead(slow)
	_, term := slow.leads()
	seen := c.watchElections()
	var mu sync.Mutex
	answers := make(map[uint64]raftpb.Message) // of its followers, the last in its term
	var asked raftpb.Message                   // its last heartbeat that asks for a confirmation
	c.net.watch(func(from, to string, m *raftpb.Message) {
		seen.note(from, to, m)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case m.Type == raftpb.HeartbeatResp && to == slow.addr && m.Term == term:
			answers[m.From] = *m
		case m.Type == raftpb.Heartbeat && from == slow.addr && m.Hint != 0:
			asked = *m
		}
	})
	testkit.Eventually(t, "answers of both followers", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(answers) == 2
	})
	c.net.isolate(slow.addr, true)
	testkit.Eventually(t, "another leader", func() bool { return len(seen.before(time.Now(), term)) > 0 })
	mu.Lock()
	asked = raftpb.Message{}
	mu.Unlock()
	begun := time.Now()
	limit := 500 * time.Millisecond
	if forged {
		limit = testkit.Patience // it is confirmed before
	}
	result := make(chan error, 1)
	go func() { result <- group{slow.Replica}.ReadIndex(testkit.Within(t, limit)) }()
	testkit.Eventually(t, "the question", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return asked.Hint != 0
	})
	mu.Lock()
	for _, m := range answers {
		if forged {
			m.Hint, m.HintHigh = asked.Hint, asked.HintHigh
		}
		c.net.deliver(slow.addr, m)
	}
	mu.Unlock()
	err := <-result
	id, now := slow.leads()
	return confirmation{confirmed: err == nil && id == slow.id && now == term, later: seen.before(begun, term)}
}

// TestEngineIgnoresOldAnswers: answers to earlier heartbeats confirm nothing that was asked
// since. Forged ones do, which shows that the test would notice.
func TestEngineIgnoresOldAnswers(t *testing.T) {
	if got := staleAnswers(t, false); got.confirmed || len(got.later) == 0 {
		t.Errorf("an old answer has confirmed a former leader: %+v", got)
	}
	if got := staleAnswers(t, true); !got.confirmed || len(got.later) == 0 {
		t.Errorf("the test does not notice: %+v", got)
	}
}
