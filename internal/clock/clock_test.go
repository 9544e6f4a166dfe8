package clock

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

// machine is a machine whose clocks a test moves.
type machine struct {
	*Clock
	t       *testing.T
	mu      sync.Mutex
	elapsed time.Duration
	off     time.Duration // of the wall clock, from the true time
	log     bytes.Buffer
}

// truth is the true time at the start.
var truth = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

const (
	jump   = 10 * time.Second
	decade = 10 * 365 * 24 * time.Hour
)

// newMachine returns a machine whose wall clock is off by so much when it starts.
func newMachine(t *testing.T, off time.Duration, change func(*Options)) *machine {
	t.Helper()
	m := &machine{t: t, off: off, elapsed: 5 * time.Hour}
	o := Options{
		MaxJump: jump,
		Wall: func() time.Time {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.truth().Add(m.off)
		},
		Elapsed: func() time.Duration {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.elapsed
		},
		Log: slog.New(slog.NewTextHandler(&m.log, nil)),
	}
	if change != nil {
		change(&o)
	}
	m.Clock = New(o)
	return m
}

func member(o *Options) { o.Member = true }

func (m *machine) truth() time.Time { return truth.Add(m.elapsed - 5*time.Hour) }

// pass lets time pass.
func (m *machine) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.elapsed += d
}

// set sets the wall clock off by so much.
func (m *machine) set(off time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = off
}

// hear tells the machine of members whose wall clocks are off by so much.
func (m *machine) hear(off map[uint64]time.Duration) {
	for id, d := range off {
		sent := m.Elapsed()
		m.Hear(id, m.truth().Add(d), sent, sent)
	}
}

// off is how far the time is from the true time.
func (m *machine) offBy() time.Duration { return m.Now().Sub(m.truth()) }

func (m *machine) want(what string, off time.Duration) {
	m.t.Helper()
	if got := m.offBy(); (got - off).Abs() > time.Millisecond {
		m.t.Errorf("%s: the time is off by %v, want %v", what, got, off)
	}
}

func (m *machine) said(text string) int { return strings.Count(m.log.String(), text) }

func everyone(uint64) bool { return true }

// A member's clock counts within MaxJump of what a majority's have reached.
func TestMajority(t *testing.T) {
	for _, c := range []struct {
		name  string
		own   time.Duration
		other map[uint64]time.Duration
		want  time.Duration
	}{
		{"all right", 0, map[uint64]time.Duration{2: 0, 3: 0}, 0},
		{"a little ahead", 9 * time.Second, map[uint64]time.Duration{2: 0, 3: 0}, 9 * time.Second},
		{"a decade ahead", decade, map[uint64]time.Duration{2: 0, 3: 0}, jump},
		{"a decade behind", -decade, map[uint64]time.Duration{2: 0, 3: 0}, -jump},
		{"another a decade ahead", 0, map[uint64]time.Duration{2: decade, 3: 0}, 0},
		{"another a decade behind", 0, map[uint64]time.Duration{2: -decade, 3: 0}, 0},
		{"ahead, with one of two others heard", decade, map[uint64]time.Duration{2: 0}, jump},
		{"the other one ahead, of two heard", 0, map[uint64]time.Duration{2: decade}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, c.own, member)
			m.ContinueFrom(m.truth().Add(-time.Hour))
			m.Vote(1, []uint64{1, 2, 3}, everyone)
			m.hear(c.other)
			m.want("at once", c.want)
			m.pass(time.Hour)
			if got := m.offBy(); (got - c.want).Abs() > time.Second {
				t.Errorf("an hour without a word of the others later it is off by %v, want %v", got, c.want)
			}
		})
	}
}

// However far apart clocks may be, the time is the wall clock's within that.
func TestEveryJumpAllowed(t *testing.T) {
	for _, jump := range []time.Duration{200 * 365 * 24 * time.Hour, math.MaxInt64} {
		for name, voters := range map[string][]uint64{"a member": {1, 2, 3}, "alone": {1}} {
			m := newMachine(t, 0, func(o *Options) { o.Member, o.MaxJump = true, jump })
			m.ContinueFrom(m.truth())
			m.Vote(1, voters, everyone)
			m.hear(map[uint64]time.Duration{2: 0, 3: 0})
			m.want(name+" with right clocks", 0)
			m.set(decade)
			m.want(name+" a decade ahead", decade)
		}
	}
}

// Until a majority's clocks are known, a member's own cannot move the time ahead of
// where its log leads.
func TestMemberThatHasHeardNoMajority(t *testing.T) {
	m := newMachine(t, decade, member)
	m.want("without a log", earliest.Sub(truth))
	m.ContinueFrom(truth.Add(-time.Hour))
	m.want("with a log", -time.Hour)
	m.Vote(1, []uint64{1, 2, 3}, everyone)
	m.pass(time.Minute)
	m.want("a minute later", -time.Hour)
	if m.Known() {
		t.Error("it knows a majority")
	}
	m.hear(map[uint64]time.Duration{3: 0})
	m.want("when it has heard one", jump)
	if now, known := m.Majority(); !known || !now.Equal(m.truth()) {
		t.Errorf("a majority's time is %v (%v), want %v", now, known, m.truth())
	}
	behind := newMachine(t, -time.Hour, member)
	behind.ContinueFrom(truth)
	behind.want("behind its log", -time.Hour)
}

// A member without a vote goes by those that have one.
func TestMemberWithoutAVote(t *testing.T) {
	m := newMachine(t, decade, member)
	m.Vote(9, []uint64{1}, everyone)
	if m.Known() {
		t.Error("it takes itself for a majority")
	}
	m.hear(map[uint64]time.Duration{1: 0})
	m.want("with the voter's clock", jump)
}

// The time never goes back, whatever clocks are set to, but by Reset.
func TestNeverBack(t *testing.T) {
	m := newMachine(t, 0, member)
	m.Vote(1, []uint64{1, 2, 3}, everyone)
	m.hear(map[uint64]time.Duration{2: 9 * time.Second, 3: 9 * time.Second})
	m.set(19 * time.Second)
	m.want("ahead", 19*time.Second)
	m.set(-time.Hour)
	m.hear(map[uint64]time.Duration{2: 0, 3: 0})
	m.want("all set back", 19*time.Second)
	m.pass(7 * time.Second)
	m.want("it stands still", 12*time.Second)
	m.Reset(m.truth())
	m.want("reset", -jump)
}

// A slave goes by its master's time, and forgets what that was before it was set.
func TestSlave(t *testing.T) {
	m := newMachine(t, decade, func(o *Options) { o.Slave = true })
	m.Vote(0, []uint64{1}, everyone)
	m.ContinueFrom(m.truth().Add(-time.Minute))
	m.want("before it hears its master", -time.Minute)
	m.hear(map[uint64]time.Duration{1: time.Hour})
	m.want("when it does", time.Hour+jump)
	sent := m.Elapsed()
	m.pass(time.Millisecond)
	m.Reset(m.truth())
	m.want("reset", 0)
	m.Hear(1, m.truth().Add(time.Hour), sent, m.Elapsed())
	m.want("after an answer from before", 0)
	m.hear(map[uint64]time.Duration{1: time.Second})
	m.want("when it hears its master again", time.Second+jump)
}

// A slave's time goes back with its master's if that was set back, and not with that of another one.
func TestSlaveOfAMasterThatIsSetBack(t *testing.T) {
	m := newMachine(t, 0, func(o *Options) { o.Slave = true })
	m.Vote(0, []uint64{1}, everyone)
	m.hear(map[uint64]time.Duration{1: time.Hour})
	m.want("ahead with its master", time.Hour-jump)
	m.hear(map[uint64]time.Duration{1: 0})
	m.want("another master", time.Hour-jump)
	m.HearSetBack(1, m.truth(), m.Elapsed(), m.Elapsed())
	m.want("its master is set back", 0)
	m.pass(time.Minute)
	m.want("a minute later", 0)
}

// A node alone follows a leap of its clock at twice the speed of time, and loudly.
func TestLeapOfANodeAlone(t *testing.T) {
	for name, alone := range map[string]func(*testing.T) *machine{
		"standalone": func(t *testing.T) *machine { return newMachine(t, 0, nil) },
		"a group of one": func(t *testing.T) *machine {
			m := newMachine(t, 0, member)
			m.Vote(1, []uint64{1}, everyone)
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := alone(t)
			m.want("at first", 0)
			m.set(9 * time.Second)
			m.want("a small step", 9*time.Second)
			m.set(time.Hour)
			m.want("a leap", 9*time.Second)
			m.pass(10 * time.Second)
			m.want("10 s later", 19*time.Second)
			m.pass(time.Minute)
			m.want("a minute later", 79*time.Second)
			if m.said("has jumped forward") != 1 {
				t.Errorf("it said: %s", &m.log)
			}
			m.set(0)
			m.want("put right", 79*time.Second)
			m.pass(79 * time.Second)
			m.want("as much later", 0)
			if m.said("agree again") != 1 {
				t.Errorf("it said: %s", &m.log)
			}
		})
	}
}

// A leap that is right is caught up with, or accepted by an operator.
func TestLeapThatIsRight(t *testing.T) {
	m := newMachine(t, -time.Minute, nil)
	m.want("at first", -time.Minute)
	m.set(0)
	for range 59 {
		m.pass(time.Second)
		m.Now()
	}
	m.want("59 s later", -time.Second)
	m.pass(2 * time.Second)
	m.want("61 s later", 0)
	m.set(time.Hour)
	m.want("the next", 0)
	m.Reset(m.truth())
	m.want("accepted", time.Hour)
}

// A machine whose clock was not set when it started is believed when it is.
func TestClockThatIsSetLate(t *testing.T) {
	unset := time.Unix(0, 0).Sub(truth)
	m := newMachine(t, unset, nil)
	m.want("before it is set, without a log", unset)
	m.set(0)
	m.want("set", 0)
	m = newMachine(t, unset, nil)
	m.ContinueFrom(truth.Add(-time.Hour))
	m.want("before it is set", unset)
	if m.said("behind the log's clock") != 1 {
		t.Errorf("it said: %s", &m.log)
	}
	m.pass(time.Minute)
	m.set(0)
	m.want("set", 0)
	if m.said("was set forward") != 1 || m.Doubtful() {
		t.Errorf("it said: %s", &m.log)
	}
}

// A node alone that starts with a clock far ahead of its log's believes it, but says so
// and is in no hurry to remove what has expired.
func TestStartFarAheadOfTheLog(t *testing.T) {
	for _, m := range []*machine{newMachine(t, 0, nil), newMachine(t, 0, member)} {
		m.ContinueFrom(truth.Add(-365 * 24 * time.Hour))
		m.ContinueFrom(truth.Add(-2 * 365 * 24 * time.Hour))
		m.Vote(1, []uint64{1}, everyone)
		m.want("at the start", 0)
		if !m.Doubtful() || m.said("far ahead of the log's clock") != 1 {
			t.Errorf("doubtful: %v; it said: %s", m.Doubtful(), &m.log)
		}
		m.pass(grace)
		if m.Doubtful() {
			t.Error("it doubts for ever")
		}
	}
	m := newMachine(t, 0, nil)
	m.ContinueFrom(truth.Add(-time.Hour))
	m.Now()
	if m.Doubtful() || m.log.Len() > 0 {
		t.Errorf("after a short rest it is in doubt: %s", &m.log)
	}
}

// Who is off is told by what a majority says, not by who asks.
func TestMembers(t *testing.T) {
	for self, off := range map[uint64][]time.Duration{1: {decade, 0, 0}, 2: {0, decade, 0}} {
		m := newMachine(t, off[self-1], member)
		m.Vote(self, []uint64{1, 2, 3}, everyone)
		for _, r := range m.Members() {
			if r.Off {
				t.Errorf("member %d is off before a majority is known", r.ID)
			}
		}
		others := make(map[uint64]time.Duration)
		for i, d := range off {
			if id := uint64(i + 1); id != self {
				others[id] = d
			}
		}
		m.hear(others)
		got := m.Members()
		for i, r := range got {
			if r.ID != uint64(i+1) || r.Off != (off[i] != 0) || r.Ahead != off[i] || r.Skew != off[i]-off[self-1] {
				t.Errorf("at %d, member %d is %+v", self, i+1, r)
			}
		}
		m.Vote(self, []uint64{1, 2, 3}, func(id uint64) bool { return id == 3 })
		if n := len(m.Members()); n > 2 {
			t.Errorf("%d members are known after one was forgotten", n)
		}
	}
}

// A slow answer says little, and that much is allowed for.
func TestUncertainty(t *testing.T) {
	m := newMachine(t, 0, member)
	m.Vote(1, []uint64{1, 2}, everyone)
	sent := m.Elapsed()
	m.pass(4 * time.Second)
	m.Hear(2, m.truth().Add(11*time.Second), sent, m.Elapsed())
	for _, r := range m.Members() {
		if r.ID == 2 && (r.Uncertain != 2*time.Second || r.Skew != 13*time.Second || !r.Off) {
			t.Errorf("%+v", r)
		}
	}
	sent = m.Elapsed()
	m.pass(8 * time.Second)
	m.Hear(2, m.truth().Add(9*time.Second), sent, m.Elapsed())
	for _, r := range m.Members() {
		if r.ID == 2 && r.Off {
			t.Errorf("off for certain: %+v", r)
		}
	}
}

// Many may ask at once, while all is changed.
func TestConcurrently(t *testing.T) {
	m := newMachine(t, 0, member)
	m.ContinueFrom(truth)
	m.Vote(1, []uint64{1, 2, 3}, everyone)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := time.Time{}
			for range 1000 {
				now := m.Now()
				if now.Before(last) {
					t.Errorf("back from %v to %v", last, now)
				}
				last = now
				_, _, _ = m.Members(), m.Known(), m.Damped()
			}
		})
	}
	for i := range 1000 {
		m.pass(50 * time.Millisecond)
		sent := m.Elapsed()
		m.Hear(uint64(2+i%2), m.Wall(), sent, sent)
		m.set(time.Duration(i%7) * time.Second)
	}
	wg.Wait()
}

// A Now that began before a Reset does not undo it.
func TestResetWins(t *testing.T) {
	var m *machine
	once := sync.Once{}
	m = newMachine(t, 0, func(o *Options) {
		wall := o.Wall
		o.Wall = func() time.Time {
			now := wall()
			if m != nil && m.off == time.Minute {
				once.Do(func() { m.set(0); m.Reset(m.truth()) })
			}
			return now
		}
	})
	m.Reset(m.truth())
	m.off = time.Minute
	m.Now()
	m.want("reset in the middle of a look at the clock", 0)
}

func TestDefaults(t *testing.T) {
	c := New(Options{})
	if c.MaxJump() != DefaultMaxJump || time.Since(c.Now()).Abs() > time.Minute || c.Damped().Abs() > time.Second || !c.Known() {
		t.Errorf("%v, %v, %v", c.MaxJump(), c.Now(), c.Damped())
	}
}
