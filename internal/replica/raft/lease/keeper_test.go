package lease

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestFirstEpochServesAtOnce(t *testing.T) {
	keep(t, &fakeGroup{term: 1, self: true}, Options{Length: length}, func(t *testing.T, k *Keeper) {
		k.mustEpoch(t, 1)
		if _, ok := k.Take(); ok {
			t.Error("there is a lease that was never confirmed")
		}
		l, err := k.Confirm(t.Context())
		if err != nil || !l.Valid() {
			t.Fatalf("not confirmed: %v", err)
		}
		if !read(k) {
			t.Error("the confirmation did not renew the lease")
		}
		s := k.Stats()
		if s.Epoch != 1 || s.Term != 1 || s.WaitOuts != 0 || s.Activations != 1 || s.LeaseReads != 1 || s.Confirmed != 1 ||
			s.Fallbacks != 1 || s.Remaining != length {
			t.Errorf("stats %+v", s)
		}
		// Run hears of the new lease, and may renew it at once.
		if s.ReadIndexes < 1 || s.ReadIndexes > 2 {
			t.Errorf("a majority was asked %d times", s.ReadIndexes)
		}
	})
}

func TestFollowerSendsElsewhere(t *testing.T) {
	keep(t, &fakeGroup{term: 3}, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if _, err := k.Epoch(t.Context()); !errors.Is(err, ErrNotOwner) {
			t.Errorf("Epoch says %v", err)
		}
		if _, err := k.Confirm(t.Context()); !errors.Is(err, ErrNotOwner) {
			t.Errorf("Confirm says %v", err)
		}
		if kv.OutcomeOf(ErrNotOwner) != kv.NotApplied || kv.KindOf(ErrNotOwner) != kv.Unavailable {
			t.Error("ErrNotOwner is not safe to retry")
		}
	})
}

// Nothing is served before the earlier leases have ended, and then at once.
func TestWaitOut(t *testing.T) {
	g := &fakeGroup{term: 2, self: true, index: 10, epoch: command.Epoch{ID: 9, Term: 1, Owner: 2, Nonce: 1, Lease: length}}
	start := time.Duration(0)
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		for _, call := range []func(context.Context) error{
			func(ctx context.Context) error { _, err := k.Epoch(ctx); return err },
			func(ctx context.Context) error { _, err := k.Confirm(ctx); return err },
		} {
			if err := call(testkit.Within(t, length/4)); !errors.Is(err, context.DeadlineExceeded) || kv.OutcomeOf(err) != kv.NotApplied {
				t.Errorf("during the wait-out: %v", err)
			}
		}
		if s := k.Stats(); !s.Waiting || s.WaitOuts != 1 || s.Epoch != 0 || g.asked() != 0 {
			t.Errorf("stats %+v, %d ReadIndexes", s, g.asked())
		}
		k.mustEpoch(t, 11)
		if now := k.o.Clock.Now() - start; now != length+length/10 {
			t.Errorf("it waited for %v", now)
		}
	})
}

func TestNoWaitBehindAnEndedEpoch(t *testing.T) {
	g := &fakeGroup{term: 2, self: true, index: 10, epoch: command.Epoch{ID: 9, Term: 1, Owner: 2, Nonce: 1, Ended: true}}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		k.mustEpoch(t, 11)
		if now := k.o.Clock.Now(); now != 0 {
			t.Errorf("it waited for %v", now)
		}
	})
}

// TestWaitOutOfOthersLeases: a process waits for the leases that the epoch before it says
// may run, whatever its own settings are.
func TestWaitOutOfOthersLeases(t *testing.T) {
	before := func(lease, earlier time.Duration) command.Epoch {
		return command.Epoch{ID: 9, Term: 1, Owner: 2, Nonce: 1, Lease: lease, Earlier: earlier}
	}
	for _, c := range []struct {
		name      string
		own       time.Duration
		before    command.Epoch
		want      time.Duration
		anyLeases bool
	}{
		{"without leases, behind one with", 0, before(length, 0), length, false},
		{"without leases, behind one without", 0, before(0, 0), 0, false},
		{"behind longer ones", length, before(5*length, 0), 5 * length, true},
		{"behind shorter ones", length, before(length/4, 0), length, true},
		{"behind one that never became active", length, before(length/4, 5*length), 5 * length, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &fakeGroup{term: 2, self: true, index: 10, epoch: c.before}
			keep(t, g, Options{Length: c.own}, func(t *testing.T, k *Keeper) {
				k.mustEpoch(t, 11)
				if now := k.o.Clock.Now(); now != c.want+c.want/10 {
					t.Errorf("it waited for %v, want %v", now, c.want+c.want/10)
				}
				if _, err := k.Confirm(t.Context()); err != nil {
					t.Error(err)
				}
				if _, ok := k.Take(); ok != c.anyLeases {
					t.Errorf("there is a lease: %v", ok)
				}
			})
		})
	}
}

// TestLeaseAsRecorded: a lease lasts no longer than the epoch's record says, since that is
// what the next owner waits for.
func TestLeaseAsRecorded(t *testing.T) {
	g := &fakeGroup{term: 1, self: true, terse: true}
	keep(t, g, Options{Length: 2 * command.UnstatedLease}, func(t *testing.T, k *Keeper) {
		if _, err := k.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := k.Stats(); s.Remaining != command.UnstatedLease {
			t.Errorf("%v remain", s.Remaining)
		}
	})
}

// A takeover during which the leadership is lost comes to nothing.
func TestWaitOutIsGivenUp(t *testing.T) {
	g := &fakeGroup{term: 2, self: true, index: 10, epoch: command.Epoch{ID: 9, Term: 1, Owner: 2, Nonce: 1, Lease: length}}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		time.Sleep(length / 2)
		g.set(func() { g.term, g.self = 3, false })
		k.LeaderChanged()
		synctest.Wait()
		if s := k.Stats(); s.Waiting || s.Activations != 0 {
			t.Errorf("stats %+v", s)
		}
		// The epoch was this process's, but it has never waited for the one before.
		g.set(func() { g.term, g.self = 4, true })
		k.LeaderChanged()
		synctest.Wait()
		if s := k.Stats(); !s.Waiting || s.WaitOuts != 2 {
			t.Errorf("stats %+v", s)
		}
	})
}

// A caller that waits for a takeover is redirected as soon as the leadership is lost,
// however far the takeover has come, and whether or not a change of the leader is told.
func TestWaitersAreRedirected(t *testing.T) {
	calls := map[string]func(context.Context, *Keeper) error{
		"a mutation": func(ctx context.Context, k *Keeper) error { _, err := k.Epoch(ctx); return err },
		"a read":     func(ctx context.Context, k *Keeper) error { _, err := k.Confirm(ctx); return err },
	}
	for what, call := range calls {
		for _, c := range []struct {
			name  string
			hangs bool
			err   error
			told  bool
			most  time.Duration
		}{
			{"in the wait-out", false, nil, true, 0},
			{"in the wait-out, untold", false, nil, false, DefaultPoll},
			{"while BEGIN is under way", true, nil, true, 0},
			{"while BEGIN is under way, untold", true, nil, false, DefaultPoll},
			{"after a BEGIN that failed", false, errors.New("no majority"), false, DefaultPoll},
		} {
			t.Run(what+" "+c.name, func(t *testing.T) {
				g := &fakeGroup{term: 5, self: true, epoch: command.Epoch{ID: 3, Term: 4, Owner: 2, Nonce: 1}, index: 3, beginHangs: c.hangs, beginErr: c.err}
				keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
					answer := make(chan error, 1)
					go func() { answer <- call(testkit.Within(t, 5*time.Second), k) }()
					time.Sleep(length / 4)
					g.set(func() { g.term, g.self = 7, false })
					lost := time.Now()
					if c.told {
						k.LeaderChanged()
					}
					if err := <-answer; !errors.Is(err, ErrNotOwner) || time.Since(lost) > c.most {
						t.Errorf("%v after the leadership was lost: %v", time.Since(lost), err)
					}
				})
			})
		}
	}
}

// A BEGIN that takes longer than Timeout, as with a slow disk, gets more time at each attempt of a
// term. The first attempt of another term gets as little as ever: the leadership may be lost again.
func TestSlowBegin(t *testing.T) {
	const takes = 3 * DefaultTimeout
	g := &fakeGroup{term: 1, self: true, beginTakes: takes}
	keep(t, g, Options{Length: length, BeginTimeout: 5 * DefaultTimeout}, func(t *testing.T, k *Keeper) {
		begun := time.Now()
		if _, err := k.Epoch(testkit.Within(t, testkit.Patience)); err != nil {
			t.Fatal(err)
		}
		if got, most := time.Since(begun), DefaultTimeout+2*DefaultTimeout+takes+2*DefaultPoll; got > most {
			t.Errorf("the epoch has begun after %v, not within %v", got, most)
		}
		g.set(func() { g.term, g.beginHangs = 2, true })
		k.LeaderChanged()
		synctest.Wait()
		failed := k.Stats().Failures
		time.Sleep(DefaultTimeout)
		synctest.Wait()
		if n := k.Stats().Failures - failed; n != 1 {
			t.Errorf("%d attempts of another term have ended after %v", n, DefaultTimeout)
		}
	})
}

// A BEGIN whose term is lost does not hold up that of the next one, however much time it has, and
// whether or not a change of the leader is told. It is no reason for a warning.
func TestBeginEndsWithItsTerm(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "untold": false} {
		t.Run(name, func(t *testing.T) {
			g, log := &fakeGroup{term: 1, self: true, beginHangs: true}, new(testkit.Log)
			keep(t, g, Options{Length: length, BeginTimeout: time.Hour, Log: log.Logger(slog.LevelWarn)}, func(t *testing.T, k *Keeper) {
				time.Sleep(2 * time.Hour)
				warned := log.Count("level=WARN")
				g.set(func() { g.term, g.beginHangs = 3, false })
				won, most := time.Now(), 2*DefaultPoll
				if told {
					k.LeaderChanged()
					most = 0
				}
				k.mustEpoch(t, 1)
				if got := time.Since(won); got > most {
					t.Errorf("the epoch of the next term has begun after %v", got)
				}
				if n := log.Count("level=WARN"); warned == 0 || n != warned {
					t.Errorf("%d warnings before the term was lost, and %d then", warned, n)
				}
			})
		})
	}
}

// Looking at the lease is neither a read nor a reason to renew it.
func TestLookingIsNoDemand(t *testing.T) {
	g := &fakeGroup{term: 1, self: true}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if k.Held() || k.Confirmed() != 0 {
			t.Error("a lease before the first confirmation")
		}
		time.Sleep(length)
		if _, err := k.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		asked, begun := g.asked(), k.o.Clock.Now()
		for range 4 * 20 {
			if now := k.o.Clock.Now(); k.Held() != (now-begun < length) || k.Confirmed() != begun {
				t.Fatalf("after %v the lease is held: %v; confirmed at %v", now-begun, k.Held(), k.Confirmed())
			}
			time.Sleep(length / 20)
		}
		if s := k.Stats(); s.LeaseReads != 0 || g.asked() != asked {
			t.Errorf("%d reads are counted, and %d times a majority was asked", s.LeaseReads, g.asked()-asked)
		}
	})
}

// The lease is renewed while there are readers, lapses when there are none, and comes
// back with the next reader.
func TestDemand(t *testing.T) {
	g := &fakeGroup{term: 1, self: true}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if _, err := k.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 40 {
			time.Sleep(length / 8)
			if !read(k) {
				t.Fatal("the lease has lapsed under a reader")
			}
		}
		if n := g.asked(); n < 15 || n > 25 {
			t.Errorf("%d ReadIndexes in two seconds of reading", n)
		}
		time.Sleep(3 * length)
		before := g.asked()
		time.Sleep(10 * length)
		if g.asked() != before {
			t.Errorf("%d ReadIndexes without a reader", g.asked()-before)
		}
		if _, ok := k.Take(); ok {
			t.Error("a lapsed lease is still handed out")
		}
		if _, err := k.Confirm(t.Context()); err != nil || !read(k) {
			t.Errorf("the lease has not come back: %v", err)
		}
	})
}

// A lease that runs out between taking it and the second look is void.
func TestSecondLook(t *testing.T) {
	g := &fakeGroup{term: 1, self: true}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		confirmed, err := k.Confirm(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // for the step that the new lease brings about, which might renew it
		g.set(func() { g.readErr = errors.New("no quorum") })
		taken, ok := k.Take()
		if !ok || !taken.Valid() {
			t.Fatal("no lease")
		}
		time.Sleep(length - 1)
		if !taken.Valid() {
			t.Error("the lease ended early")
		}
		time.Sleep(time.Nanosecond)
		if taken.Valid() {
			t.Error("the lease outlives its time")
		}
		if !confirmed.Valid() {
			t.Error("a confirmation does not run out")
		}
		g.set(func() { g.self = false })
		if confirmed.Valid() {
			t.Error("a confirmation outlives the leadership")
		}
		if k.Stats().Failures == 0 {
			t.Error("failed renewals are not counted")
		}
	})
}

// The lease counts from the start of the ReadIndex.
func TestLeaseFromTheStart(t *testing.T) {
	g := &fakeGroup{term: 1, self: true, duringRead: func() { time.Sleep(length / 2) }}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if _, err := k.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := k.Stats(); s.Remaining != length/2 {
			t.Errorf("%v remain", s.Remaining)
		}
	})
}

func TestFencedBeginsAnew(t *testing.T) {
	g := &fakeGroup{term: 1, self: true}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if _, err := k.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, _ := k.Take()
		k.Fenced(99)
		if !l.Valid() {
			t.Error("another epoch's fence has ended the lease")
		}
		k.Fenced(1)
		if l.Valid() {
			t.Error("the lease outlives its epoch")
		}
		// The one before was this process's own: no wait.
		k.mustEpoch(t, 2)
		if now := k.o.Clock.Now(); now != 0 {
			t.Errorf("it waited for %v", now)
		}
		if l.Valid() {
			t.Error("the lease of an epoch counts in another")
		}
	})
}

// A BEGIN of unknown outcome is repeated.
func TestBeginIsRepeated(t *testing.T) {
	g := &fakeGroup{term: 1, self: true, beginErr: errors.New("timed out")}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if s := k.Stats(); s.Activations != 0 || s.Failures == 0 {
			t.Errorf("stats %+v", s)
		}
		g.set(func() { g.beginErr = nil })
		if _, err := k.Epoch(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Its own, but never active: what was before it may be anybody's.
		if s := k.Stats(); s.WaitOuts != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// A leader that is not up to date in its own affairs does not activate.
func TestBeginRefused(t *testing.T) {
	g := &fakeGroup{term: 1, self: true, epoch: command.Epoch{ID: 5, Term: 4, Owner: 2}}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if _, err := k.Epoch(testkit.Within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Epoch says %v", err)
		}
	})
}

func TestSystemClock(t *testing.T) {
	c := SystemClock{}
	before := c.Now()
	timer, stop := c.NewTimer(time.Millisecond)
	<-timer
	stop()
	if passed := c.Now() - before; passed < time.Millisecond {
		t.Errorf("%v have passed in a millisecond", passed)
	}
	k := New(nil, Options{Length: time.Second, Drift: -1})
	if o := k.o; o.Renew != time.Second/4 || o.Drift != DefaultDrift || o.Clock == nil || o.Log == nil {
		t.Errorf("defaults %+v", o)
	}
}

// A replica that follows looks at the leader again and again. Those who watch the node hear
// of it once.
func TestAFollowerRaisesTheNodesSignalOnce(t *testing.T) {
	g := &fakeGroup{term: 1}
	changed := new(signal.Signal)
	keep(t, g, Options{Length: length, Changed: changed}, func(t *testing.T, k *Keeper) {
		time.Sleep(time.Minute) // what it sees first is a change
		quiet := changed.Changed()
		time.Sleep(time.Minute)
		select {
		case <-quiet:
			t.Error("the signal was raised though nothing has changed")
		default:
		}
		g.set(func() { g.term = 2 })
		time.Sleep(time.Second)
		select {
		case <-quiet:
		default:
			t.Error("the signal was not raised for another term")
		}
	})
}
