package confirm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/standby"
)

// outcome is how an answer ended.
type outcome struct {
	reached kv.Ack
	err     error
	took    time.Duration
}

// await answers up to an index in the background.
func await(t *testing.T, l *Log, index kv.Index, want kv.Ack) <-chan outcome {
	out, begin := make(chan outcome, 1), time.Now()
	go func() {
		reached, err := l.Await(t.Context(), index, want)
		out <- outcome{reached, err, time.Since(begin)}
	}()
	synctest.Wait()
	return out
}

func pending(t *testing.T, what string, out <-chan outcome) {
	t.Helper()
	synctest.Wait()
	select {
	case o := <-out:
		t.Fatalf("%s: answered with %v, %v", what, o.reached, o.err)
	default:
	}
}

func answered(t *testing.T, what string, out <-chan outcome, want kv.Ack) {
	t.Helper()
	synctest.Wait()
	select {
	case o := <-out:
		if o.err != nil || o.reached != want {
			t.Fatalf("%s: %v, %v; want %v", what, o.reached, o.err, want)
		}
	default:
		t.Fatalf("%s: not answered", what)
	}
}

func failed(t *testing.T, what string, out <-chan outcome) error {
	t.Helper()
	o := <-out
	if kv.KindOf(o.err) != kv.NotConfirmed || kv.OutcomeOf(o.err) != kv.Unknown || !strings.HasPrefix(o.err.Error(), "applied here, not confirmed") {
		t.Fatalf("%s: %v, %v", what, o.reached, o.err)
	}
	return o.err
}

// TestSyncWaitsForTheDisk: what was only received is not enough at level sync, and is at
// semi_sync.
func TestSyncWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, level := range []kv.Ack{kv.AckSemiSync, kv.AckSync} {
			l, _ := open(t, Options{Level: level}, "a")
			a := link("a", 1)
			confirms(t, l, a, 4, 4)
			out := await(t, l, 5, kv.AckDefault)
			pending(t, "before it is received", out)
			confirms(t, l, a, 5, 4)
			if level == kv.AckSync {
				pending(t, "received only", out)
				confirms(t, l, a, 5, 5)
			}
			answered(t, level.String(), out, level)
			if c := l.Counts(); c.Confirmed[level] != 1 {
				t.Errorf("%+v", c)
			}
		}
	})
}

// TestEachListedNodeIsAwaited, whatever its phase, also one that has never confirmed.
func TestEachListedNodeIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSync})
		set := standby.Set{Level: kv.AckSync}
		for disk, phase := range map[string]standby.Phase{"a": standby.Coming, "b": standby.Standing, "c": standby.Leaving} {
			set.Nodes = append(set.Nodes, standby.Node{Disk: disk, Address: disk + ":1", Phase: phase})
		}
		s.list(set)
		out := await(t, l, 7, kv.AckDefault)
		for _, disk := range []string{"a", "b", "c"} {
			pending(t, "without "+disk, out)
			confirms(t, l, link(disk, 1), 9, 9)
		}
		answered(t, "all three", out, kv.AckSync)
	})
}

// TestOnlyTheListedDiskInTheHistoryCounts: neither another disk, nor another history, nor a
// slave without a disk confirms a write.
func TestOnlyTheListedDiskInTheHistoryCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSync}, "a")
		out := await(t, l, 5, kv.AckDefault)
		confirms(t, l, link("b", 1), 9, 9)
		pending(t, "another disk", out)
		a := link("a", 1)
		if err := l.Confirm(a, Position{History: "old", Received: 9, Synced: 9}); err != nil {
			t.Fatal(err)
		}
		pending(t, "another history", out)
		confirms(t, l, NewLink(Slave{Disk: "a", Start: 2, Address: "a:1"}), 9, 9)
		pending(t, "no disk", out)
		confirms(t, l, link("a", 3), 5, 5)
		answered(t, "the disk", out, kv.AckSync)
		s.in("new")
		pending(t, "of the history before", await(t, l, 5, kv.AckDefault))
	})
}

// TestRestartForgetsWhatWasReceived: a slave that has restarted has only what it says now,
// and its former connection no longer counts.
func TestRestartForgetsWhatWasReceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, Options{Level: kv.AckSemiSync}, "a")
		before, after := link("a", 1), link("a", 2)
		confirms(t, l, before, 9, 3)
		confirms(t, l, after, 3, 3)
		out := await(t, l, 5, kv.AckDefault)
		pending(t, "received before the restart", out)
		if err := l.Confirm(before, Position{History: "h", Received: 9}); !errors.Is(err, ErrReplaced) {
			t.Error(err)
		}
		pending(t, "by the former connection", out)
		again := link("a", 2)
		confirms(t, l, again, 5, 3)
		answered(t, "received again", out, kv.AckSemiSync)
		l.Lost(again)
		confirms(t, l, link("a", 2), 4, 3)
		answered(t, "a connection of the same start takes nothing back", await(t, l, 5, kv.AckDefault), kv.AckSemiSync)
	})
}

// TestWaitEndsAtItsDeadline with an error that says what became of the write.
func TestWaitEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, Options{Level: kv.AckSync, Patience: 3 * time.Second}, "a")
		err := failed(t, "patience", await(t, l, 5, kv.AckDefault))
		if !strings.Contains(err.Error(), "a:1") {
			t.Errorf("%v does not name the slave", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := l.Await(ctx, 5, kv.AckDefault); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if c := l.Counts(); c.Unconfirmed != 2 || l.Waiting() != 0 {
			t.Errorf("%+v, %d waiting", c, l.Waiting())
		}
	})
}

// TestWithoutAStandbyWritesAreRefused before they are proposed, and those that wait fail.
func TestWithoutAStandbyWritesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSync}, "a")
		if err := l.Admit(t.Context(), kv.AckDefault); err != nil {
			t.Error(err)
		}
		out := await(t, l, 5, kv.AckDefault)
		s.list(standby.Set{Level: kv.AckSync, Fallback: true})
		l.Refresh()
		_ = failed(t, "the last one left", out)
		if err := l.Admit(t.Context(), kv.AckDefault); kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied {
			t.Error(err)
		}
		if c := l.Counts(); c.Refused != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestFallbackIsRecordedBeforeItIsUsed: without a standby an answer waits until the log says
// so. A request that asks for a level itself never falls back.
func TestFallbackIsRecordedBeforeItIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSync, FallBack: true})
		if err := l.Admit(t.Context(), kv.AckDefault); err != nil {
			t.Error(err)
		}
		out := await(t, l, 5, kv.AckDefault)
		pending(t, "before the log says so", out)
		s.list(standby.Set{Level: kv.AckSync, Fallback: true})
		l.Refresh()
		answered(t, "after it", out, kv.AckAsync)
		if c := l.Counts(); c.FellBack[kv.AckSync] != 1 {
			t.Errorf("%+v", c)
		}
		if err := l.Admit(t.Context(), kv.AckSemiSync); kv.KindOf(err) != kv.Unavailable {
			t.Error(err)
		}
		s.list(standby.Set{Level: kv.AckSync, Fallback: true}, "a")
		pending(t, "one is coming", await(t, l, 5, kv.AckDefault))
	})
}

// TestRequestsRaiseTheLevel and never lower it.
func TestRequestsRaiseTheLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := new(signal.Signal)
		l, _ := open(t, Options{Level: kv.AckSemiSync, Changed: changes}, "a")
		a := link("a", 1)
		confirms(t, l, a, 5, 1)
		answered(t, "async", await(t, l, 5, kv.AckAsync), kv.AckSemiSync)
		if w := l.Wanted("a"); !w.Listed || w.Sync {
			t.Errorf("%+v", w)
		}
		changed := changes.Changed()
		out := await(t, l, 5, kv.AckSync)
		pending(t, "sync", out)
		<-changed
		if w := l.Wanted("a"); !w.Sync {
			t.Errorf("%+v: the slave is not told to sync", w)
		}
		confirms(t, l, a, 5, 5)
		answered(t, "synced", out, kv.AckSync)
		time.Sleep(syncStretch)
		if w := l.Wanted("a"); w.Sync {
			t.Errorf("%+v: the slave syncs for ever", w)
		}
		if err := l.Admit(t.Context(), kv.AckAll); kv.KindOf(err) != kv.Unimplemented {
			t.Errorf("level all without the other nodes: %v", err)
		}
	})
}

// TestTheLogsLevelIsKept by an owner that is configured with less.
func TestTheLogsLevelIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckAsync})
		answered(t, "no set", await(t, l, 5, kv.AckDefault), kv.AckAsync)
		s.list(standby.Set{Level: kv.AckSync}, "a")
		out := await(t, l, 5, kv.AckDefault)
		pending(t, "the set of another owner", out)
		confirms(t, l, link("a", 1), 5, 5)
		answered(t, "confirmed", out, kv.AckSync)
		s.list(standby.Set{Level: kv.AckAsync})
		answered(t, "taken out", await(t, l, 9, kv.AckDefault), kv.AckAsync)
		if !l.silent(kv.AckDefault) {
			t.Error("a log without standbys takes the lock")
		}
	})
}

// TestEntriesWithoutAnEffectAreNotAwaited: slaves learn of them late. A read awaits the newest
// change that it may have seen.
func TestEntriesWithoutAnEffectAreNotAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSync}, "a")
		s.last.Store(5)
		a := link("a", 1)
		confirms(t, l, a, 5, 5)
		answered(t, "an entry above the newest change", await(t, l, 9, kv.AckDefault), kv.AckSync)
		answered(t, "a read", await(t, l, replica.Shown, kv.AckDefault), kv.AckSync)
		s.last.Store(6)
		out := await(t, l, replica.Shown, kv.AckDefault)
		pending(t, "a read of a change that is not confirmed", out)
		confirms(t, l, a, 6, 6)
		answered(t, "confirmed", out, kv.AckSync)
	})
}

// TestManyAnswersAreWokenTogether: one confirmation answers all that it covers and no other.
func TestManyAnswersAreWokenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, Options{Level: kv.AckSemiSync}, "a")
		a := link("a", 1)
		confirms(t, l, a, 0, 0)
		var outs []<-chan outcome
		for i := range 200 {
			outs = append(outs, await(t, l, kv.Index(i+1), kv.AckDefault))
		}
		time.Sleep(time.Second)
		if got := l.Stuck("a"); got != time.Second {
			t.Errorf("stuck for %v", got)
		}
		confirms(t, l, a, 150, 0)
		for i, out := range outs[:150] {
			answered(t, string(rune('0'+i%10)), out, kv.AckSemiSync)
		}
		if l.Waiting() != 50 {
			t.Errorf("%d wait", l.Waiting())
		}
		time.Sleep(time.Second / 2)
		if got := l.Stuck("a"); got != time.Second/2 {
			t.Errorf("stuck for %v although it has confirmed more", got)
		}
		confirms(t, l, a, 200, 0)
		synctest.Wait()
		if got := l.Stuck("a"); l.Waiting() != 0 || got != 0 {
			t.Errorf("%d wait, for %v", l.Waiting(), got)
		}
	})
}

// TestAsyncCostsNothing: no allocation while there is nothing to wait for.
func TestAsyncCostsNothing(t *testing.T) {
	l, _ := open(t, Options{Level: kv.AckAsync})
	if n := testing.AllocsPerRun(100, func() {
		_ = l.Admit(t.Context(), kv.AckDefault)
		_, _ = l.Await(t.Context(), 5, kv.AckDefault)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSlotsForgetStrangers: a slave that has gone is kept only while it is listed.
func TestSlotsForgetStrangers(t *testing.T) {
	l, s := open(t, Options{Level: kv.AckSync}, "a")
	s.last.Store(10)
	a, b := link("a", 1), link("b", 1)
	confirms(t, l, a, 8, 7)
	confirms(t, l, b, 10, 2)
	slots := l.Slots()
	if len(slots) != 2 || slots[0].Lag != 2 || slots[0].SyncLag != 3 || slots[1].Lag != 0 || slots[1].SyncLag != 8 {
		t.Errorf("%+v", slots)
	}
	l.Lost(a)
	l.Lost(b)
	if slots = l.Slots(); len(slots) != 1 || slots[0].Slave.Disk != "a" || slots[0].Connected {
		t.Errorf("%+v", slots)
	}
}

// TestAnotherAddressDoesNotCount: a folder that was copied with its DISK confirms from another
// address than the one that is listed.
func TestAnotherAddressDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSync}, "a")
		s.last.Store(10)
		confirms(t, l, NewLink(Slave{Disk: "a", Start: 2, Address: "copy:1", Durable: true}), 10, 10)
		out := await(t, l, 10, kv.AckDefault)
		pending(t, "the copy has it", out)
		confirms(t, l, link("a", 1), 10, 10)
		answered(t, "the listed one has it", out, kv.AckSync)
	})
}

// allNodes answers Await with what a test sends.
type allNodes chan error

func (a allNodes) Await(ctx context.Context, _ kv.Index) error {
	select {
	case err := <-a:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (allNodes) Marked() {}

// TestLevelAllAwaitsEveryNode beside the standby, whichever is later; without a standby it is
// refused, or falls back if the node's own level is all.
func TestLevelAllAwaitsEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSemiSync}, "a")
		nodes := make(allNodes)
		l.AwaitAlso(nodes)
		a := link("a", 1)
		out := await(t, l, 5, kv.AckAll)
		confirms(t, l, a, 5, 5)
		pending(t, "the other nodes lack it", out)
		nodes <- nil
		answered(t, "all have it", out, kv.AckAll)
		out = await(t, l, 6, kv.AckAll)
		nodes <- nil
		pending(t, "the standby lacks it", out)
		confirms(t, l, a, 6, 6)
		answered(t, "the standby has it too", out, kv.AckAll)
		answered(t, "another level", await(t, l, 6, kv.AckDefault), kv.AckSemiSync)
		out = await(t, l, 6, kv.AckAll)
		nodes <- errors.New("b lacks it")
		if err := failed(t, "a node lacks it", out); !strings.Contains(err.Error(), "applied here, not confirmed: b lacks it") {
			t.Error(err)
		}
		s.list(standby.Set{Level: kv.AckSemiSync})
		if err := l.Admit(t.Context(), kv.AckAll); kv.KindOf(err) != kv.Unavailable {
			t.Errorf("without a standby: %v", err)
		}
		fall, fs := open(t, Options{Level: kv.AckAll, FallBack: true})
		fall.AwaitAlso(nodes)
		fs.list(standby.Set{Level: kv.AckAll, Fallback: true})
		answered(t, "no standby", await(t, fall, 5, kv.AckDefault), kv.AckAsync)
	})
}

// TestAnswersThatGiveUpLeaveTheirClock: a disk is stuck since the first answer has waited for it,
// however short each of them waits, until it has confirmed that, or the log has another owner.
func TestAnswersThatGiveUpLeaveTheirClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, Options{Level: kv.AckSemiSync, Patience: time.Second / 2}, "a")
		a := link("a", 1)
		confirms(t, l, a, 4, 4)
		for range 4 {
			_ = failed(t, "silent", await(t, l, 5, kv.AckDefault))
		}
		if got := l.Stuck("a"); got != 2*time.Second {
			t.Errorf("stuck for %v", got)
		}
		confirms(t, l, a, 5, 4)
		confirms(t, l, link("a", 2), 4, 4)
		if got := l.Stuck("a"); got != 0 {
			t.Errorf("stuck for %v without an answer that has waited for it since", got)
		}
		_ = failed(t, "started again", await(t, l, 5, kv.AckSync))
		s.tenure.Store(2)
		if got := l.Stuck("a"); got != 0 {
			t.Errorf("stuck for %v in the time of another owner", got)
		}
		_ = failed(t, "the next tenure", await(t, l, 5, kv.AckDefault))
		if got := l.Stuck("a"); got != time.Second/2 {
			t.Errorf("stuck for %v", got)
		}
		s.list(standby.Set{Level: kv.AckSemiSync}, "b")
		if got := l.Stuck("a"); got != 0 {
			t.Errorf("stuck for %v, and is not listed", got)
		}
	})
}

// TestFalseClaimsAreNotHeldAgainstADisk: no one has what the log has not. A disk that has claimed it,
// or in whose name another slave has, is no older copy of itself when it tells the truth.
func TestFalseClaimsAreNotHeldAgainstADisk(t *testing.T) {
	l, s := open(t, Options{Level: kv.AckSync}, "a")
	confirms(t, l, link("a", 1), 1<<63, 1<<63)
	honest := link("a", 2)
	confirms(t, l, honest, 1000, 1000)
	if at, before, fallen := l.Fallen("a", kv.AckSync); fallen {
		t.Errorf("it is at %d, and has fallen from %d", at, before)
	}
	s.last.Store(1200)
	confirms(t, l, honest, 1200, 1200)
	confirms(t, l, link("a", 3), 1100, 1100)
	if at, before, fallen := l.Fallen("a", kv.AckSync); !fallen || at != 1100 || before != 1200 {
		t.Errorf("it is at %d, was at %d, and has fallen: %v", at, before, fallen)
	}
}
