package keeper

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
)

const timeout = time.Second

// TestASlaveComesAndStands once it has confirmed all that there was when it was listed.
func TestASlaveComesAndStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout}, "0")
		b.logs[0].last.Store(50)
		b.run()
		defer b.stop()
		time.Sleep(2 * timeout)
		b.wants("no slave", "0 sync")
		a := slave("a", "")
		b.confirm(b.logs[0], a, 40)
		time.Sleep(timeout)
		b.wants("it lags", "0 sync a:coming")
		b.confirm(b.logs[0], a, 50)
		time.Sleep(timeout)
		b.wants("it has all", "0 sync a:standing")
		b.confirm(b.logs[0], slave("b", ""), 50)
		time.Sleep(timeout)
		b.wants("one is enough")
	})
}

// TestSilence: a slave that confirms nothing while an answer waits is put out after the
// time-out, and another one comes. Without a write it may be silent.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout}, "0")
		log, a, c := b.logs[0], slave("a", ""), slave("c", "")
		b.confirm(log, a, 1)
		b.run()
		defer b.stop()
		time.Sleep(timeout)
		b.wants("a", "0 sync a:coming", "0 sync a:standing")
		time.Sleep(time.Minute)
		b.wants("no write")
		out := b.write(log)
		time.Sleep(timeout)
		b.wants("not yet")
		time.Sleep(timeout / 2)
		b.wants("silent", "0 sync a:leaving", "0 sync")
		if err := <-out; kv.KindOf(err) != kv.NotConfirmed {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		b.wants("it is not chosen again while it says nothing")
		b.confirm(log, c, 2)
		time.Sleep(timeout)
		b.wants("another one", "0 sync c:coming", "0 sync c:standing")
		b.confirm(log, a, 2)
		log.Lost(c)
		out = b.write(log)
		time.Sleep(timeout + timeout/2)
		<-out
		b.wants("the first one is back", "0 sync c:leaving", "0 sync", "0 sync a:coming")
	})
}

// TestSilenceIsFoundWhateverAnswersWait: with a time-out that is longer than any answer waits, a
// slave that confirms nothing is put out all the same.
func TestSilenceIsFoundWhateverAnswersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: 3 * confirm.DefaultPatience}, "0")
		log := b.logs[0]
		b.confirm(log, slave("a", ""), 1)
		b.run()
		defer b.stop()
		time.Sleep(timeout)
		b.wants("a", "0 sync a:coming", "0 sync a:standing")
		for range 4 {
			if err := <-b.write(log); kv.KindOf(err) != kv.NotConfirmed {
				t.Error(err)
			}
		}
		b.wants("silent", "0 sync a:leaving", "0 sync")
	})
}

// TestTheFirstFallbackIsSoon whatever the time-out: no slave stands by that could be slow, as after
// a promotion.
func TestTheFirstFallbackIsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: time.Hour, FallBack: true}, "0")
		b.run()
		defer b.stop()
		began := time.Now()
		if err := <-b.write(b.logs[0]); err != nil || time.Since(began) > connecting+longest {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		b.wants("no slave", "0 sync", "0 sync fallback")
	})
}

// TestASlaveThatCouldNotBecomeAMasterStandsByNoLonger, and is not chosen: its introduction says so,
// as without the key of its data.
func TestASlaveThatCouldNotBecomeAMasterStandsByNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSemiSync, Timeout: timeout}, "0")
		log := b.logs[0]
		b.confirm(log, slave("a", ""), 1)
		b.run()
		defer b.stop()
		time.Sleep(timeout)
		b.wants("a", "0 semi_sync a:coming", "0 semi_sync a:standing")
		unfit := again("a", 1)
		unfit.Slave.Durable = false
		b.confirm(log, unfit, 1)
		b.confirm(log, slave("c", ""), 1)
		time.Sleep(timeout)
		b.wants("a cannot", "0 semi_sync a:leaving", "0 semi_sync", "0 semi_sync c:coming", "0 semi_sync c:standing")
	})
}

// TestAnOlderCopyStandsByNoLonger although no answer waits: it lacks what was acknowledged. A
// new start with the same copy changes nothing, and neither does one of another history before
// that.
func TestAnOlderCopyStandsByNoLonger(t *testing.T) {
	for _, level := range []kv.Ack{kv.AckSemiSync, kv.AckSync} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, Options{Level: level, Timeout: timeout}, "0")
			b.opts.Record = b.record
			b.opts.Standing = func(context.Context, standby.Node) (kv.Ack, error) { return level, nil }
			log, name := b.logs[0], "0 "+level.String()
			log.last.Store(50)
			b.confirm(log, slave("a", ""), 50)
			b.run()
			defer b.stop()
			time.Sleep(timeout)
			b.wants("it stands", name+" a:coming", name+" a:standing", "record with a")
			if err := log.Confirm(again("a", 2), confirm.Position{History: "h", Received: 50, Applied: 50}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(timeout)
			b.wants("it was started again, and has synced nothing yet")
			b.confirm(log, again("a", 2), 50)
			time.Sleep(timeout)
			b.wants("it was started again")
			log.last.Store(9000)
			b.confirm(log, again("a", 2), 9000)
			if err := log.Confirm(again("a", 3), confirm.Position{History: "older", Synced: 7}); err != nil {
				t.Fatal(err)
			}
			b.confirm(log, again("a", 4), 60)
			time.Sleep(timeout)
			b.wants("its copy is older", name+" a:leaving", "record without [a]", name)
			b.confirm(log, again("a", 4), 9000)
			time.Sleep(timeout)
			b.wants("it has caught up", name+" a:coming", name+" a:standing", "record with a")
		})
	}
}

// TestFallback: with async, answers are given once the log says that no slave stands by, and
// wait again as soon as one comes.
func TestFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout, FallBack: true}, "0")
		b.run()
		defer b.stop()
		log, a := b.logs[0], slave("a", "")
		out := b.write(log)
		time.Sleep(2 * timeout)
		if err := <-out; err != nil {
			t.Error(err)
		}
		b.wants("no slave at the start", "0 sync", "0 sync fallback")
		b.confirm(log, a, 2)
		time.Sleep(timeout)
		b.wants("one stands", "0 sync a:coming fallback", "0 sync a:standing")
		out = b.write(log)
		time.Sleep(2 * timeout)
		if err := <-out; err != nil {
			t.Error(err)
		}
		b.wants("it is silent", "0 sync a:leaving", "0 sync fallback")
	})
}

// TestTheRecordComesFirst: a node is out of the record before it is out of the log, and in
// it only after all owners have it standing.
func TestTheRecordComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout, FallBack: true}, "0")
		elsewhere := errors.New("the owner of vBucket 1 does not list it")
		b.opts.Record = b.record
		b.opts.Standing = func(context.Context, standby.Node) (kv.Ack, error) { return 0, elsewhere }
		log, a := b.logs[0], slave("a", "")
		b.confirm(log, a, 1)
		b.run()
		time.Sleep(timeout)
		b.wants("not everywhere", "0 sync a:coming", "0 sync a:standing")
		b.stop()
		elsewhere = nil
		b.run()
		defer func() { b.stop() }()
		time.Sleep(timeout)
		b.wants("everywhere", "record with a")
		b.record.down.Store(true)
		out := b.write(log)
		time.Sleep(3 * timeout)
		b.wants("the registry is down", "0 sync a:leaving")
		select {
		case err := <-out:
			t.Fatal("answered while the record has the standby:", err)
		default:
		}
		b.record.down.Store(false)
		time.Sleep(timeout)
		b.wants("it is up", "record without [a]", "0 sync fallback")
		if err := <-out; err != nil {
			t.Error(err)
		}
	})
}

// TestNothingLeavesALogThatTheRecordRestsOn: a node that was started without auto-promote-after
// cannot change the record, which may name the slave. Once no lease is needed, it may leave.
func TestNothingLeavesALogThatTheRecordRestsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout, Leases: true}, "0")
		b.opts.Record, b.opts.Standing = b.record, func(context.Context, standby.Node) (kv.Ack, error) { return kv.AckSync, nil }
		log := b.logs[0]
		b.confirm(log, slave("a", ""), 1)
		b.run()
		time.Sleep(timeout)
		b.wants("with the keys", "0 default", "0 sync a:coming", "0 sync a:standing", "record with a")
		b.stop()
		b.opts.Record, b.opts.Standing, b.opts.Leases, b.opts.Level = nil, nil, false, kv.AckAsync
		b.run()
		time.Sleep(time.Minute)
		b.wants("without", "0 sync a:leaving")
		set, over, _ := log.Set()
		set.Leased = false
		if _, err := log.propose(t.Context(), &command.Command{Expect: set.Record(), Delta: int64(over)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(timeout * 2)
		b.wants("claimed", "0 sync a:leaving", "0 async")
		b.stop()
	})
}

// TestOtherVBucketsFollowTheFirst: its owner chooses, the others list the same slave, and
// take it out by themselves.
func TestOtherVBucketsFollowTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSemiSync, Timeout: timeout}, "0", "1")
		first, second := b.logs[0], b.logs[1]
		first.owned.Store(false)
		b.run()
		defer b.stop()
		a, c := slave("a", ""), slave("c", "")
		b.confirm(second, a, 1)
		b.confirm(second, c, 1)
		time.Sleep(timeout)
		b.wants("the first vBucket lists none", "1 semi_sync")
		first.owned.Store(true)
		b.confirm(first, c, 1)
		time.Sleep(timeout)
		b.wants("both list the same one", "0 semi_sync c:coming", "0 semi_sync c:standing", "1 semi_sync c:coming", "1 semi_sync c:standing")
		out := b.write(first)
		time.Sleep(2 * timeout)
		<-out
		b.wants("silent", "0 semi_sync c:leaving", "0 semi_sync", "1 semi_sync c:leaving", "1 semi_sync")
	})
}

// TestAnotherLevelBeginsAgain: what was acknowledged at a lower level is checked, and at a
// higher one promised no longer, before the log says otherwise. Without a level the set is
// emptied.
func TestAnotherLevelBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSemiSync, Timeout: timeout}, "0")
		b.confirm(b.logs[0], slave("a", ""), 1)
		b.run()
		time.Sleep(timeout)
		b.wants("semi_sync", "0 semi_sync a:coming", "0 semi_sync a:standing")
		b.stop()
		b.opts.Level = kv.AckSync
		b.run()
		time.Sleep(timeout)
		b.wants("sync", "0 semi_sync a:leaving", "0 sync", "0 sync a:coming", "0 sync a:standing")
		b.stop()
		b.opts.Level = kv.AckAsync
		b.run()
		defer func() { b.stop() }()
		time.Sleep(2 * idleEvery)
		b.wants("async", "0 sync a:leaving", "0 async")
	})
}

// TestStandbysAreChosen by data centre, lag, disk and history.
func TestStandbysAreChosen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSemiSync, Timeout: timeout, DC: "west"}, "0")
		log := b.logs[0]
		log.last.Store(10_000)
		diskless := slave("diskless", "west")
		diskless.Slave.Durable = false
		b.confirm(log, slave("elsewhere", "east"), 10_000)
		b.confirm(log, diskless, 10_000)
		b.confirm(log, slave("far", "west"), 10)
		b.run()
		defer b.stop()
		time.Sleep(timeout)
		b.wants("none fits", "0 semi_sync")
		b.confirm(log, slave("slow", "west"), 9_000)
		b.confirm(log, slave("good", "west"), 9_500)
		time.Sleep(timeout)
		b.wants("the nearest", "0 semi_sync good:coming")
	})
}

// TestAnotherAddress: a standby that confirms from another address is listed with that.
func TestAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout}, "0", "1")
		for _, l := range b.logs {
			b.confirm(l, slave("a", ""), 1)
		}
		b.run()
		defer b.stop()
		time.Sleep(4 * timeout) // it has been silent for longer than a listed slave ever is
		moved := confirm.NewLink(confirm.Slave{Disk: "a", Start: 2, Address: "new:1", Durable: true})
		for _, l := range b.logs {
			b.confirm(l, moved, l.last.Load())
		}
		time.Sleep(2 * timeout)
		for _, l := range b.logs {
			set, _, err := l.Set()
			if n, _ := set.Find("a"); err != nil || n.Address != "new:1" || n.Phase != standby.Standing {
				t.Errorf("vBucket %s has %+v, %v", l.VBucket(), set, err)
			}
		}
	})
}

// TestAWipedStandbyLeavesWithoutAWrite: no answer waits for the disk that is gone, and the record must not
// name it until one does.
func TestAWipedStandbyLeavesWithoutAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout}, "0")
		b.opts.Record, b.opts.Leases = b.record, true
		b.opts.Standing = func(context.Context, standby.Node) (kv.Ack, error) { return kv.AckSync, nil }
		log, old := b.logs[0], slave("a", "")
		b.confirm(log, old, 1)
		b.run()
		defer b.stop()
		time.Sleep(2 * timeout)
		b.take()
		log.Lost(old)
		time.Sleep(time.Minute)
		b.wants("it is away")
		b.confirm(log, confirm.NewLink(confirm.Slave{Disk: "wiped", Start: 2, Address: "a:1", Durable: true}), log.last.Load())
		time.Sleep(2 * timeout)
		b.wants("it is back with another disk", "0 sync a:leaving", "record without [a]", "0 sync", "0 sync wiped:coming", "0 sync wiped:standing", "record with wiped")
	})
}
