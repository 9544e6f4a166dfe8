package discovery

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// crowd are n rows of one vBucket, all of which claim what edit says.
func crowd(n int, edit ...func(*serverpb.RegionInfo)) []*serverpb.RegionInfo {
	out := make([]*serverpb.RegionInfo, n)
	for i := range out {
		out[i] = region(fmt.Sprintf("db/0/n%06d:1/dc%d", i, i%7), secondary, edit...)
	}
	return out
}

// slowestLookUp asks for the rows of one vBucket again and again until stop is closed,
// and returns the longest time that an answer took.
func slowestLookUp(t *testing.T, tab *table, stop <-chan struct{}) (slowest time.Duration, asked int) {
	t.Helper()
	db, vBucket := "other", "0"
	for {
		select {
		case <-stop:
			return slowest, asked
		default:
		}
		began := time.Now()
		if rows := tab.query(filter{database: &db, vBucket: &vBucket}); len(rows) != 1 {
			t.Errorf("%d rows", len(rows))
		}
		slowest = max(slowest, time.Since(began))
		asked++
		time.Sleep(100 * time.Microsecond) // a processor is needed by what goes on meanwhile
	}
}

// TestLookUpWhileManyRowsTimeOut has 30 000 rows of one vBucket time out together:
// look-ups are answered meanwhile.
func TestLookUpWhileManyRowsTimeOut(t *testing.T) {
	testkit.Timely(t, func() error {
		if slowest := lookUpInAStorm(t); slowest > time.Second {
			return fmt.Errorf("a look-up took %v", slowest)
		}
		return nil
	})
}

// lookUpInAStorm returns how long the slowest look-up took while the rows timed out.
func lookUpInAStorm(t *testing.T) time.Duration {
	t.Helper()
	tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
	now := time.Now()
	began := time.Now()
	tab.say(now, crowd(30_000)...)
	t.Log("registered after", time.Since(began))
	look := func(d time.Duration) { now = now.Add(d); tab.expire(now) }
	for range 5 {
		look(10 * time.Second)
	}
	tab.say(now, region("other/0/a:1/dc1", leader))
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		began := time.Now()
		look(10 * time.Second)
		t.Log("timed out after", time.Since(began))
	}()
	slowest, asked := slowestLookUp(t, tab, stop)
	t.Logf("%d look-ups, the slowest took %v", asked, slowest)
	return slowest
}

// TestManyHistoriesTimeOut has each of many nodes of a vBucket claim to lead a history
// of its own, and all of them time out: what is derived from one costs no more for the
// others.
func TestManyHistoriesTimeOut(t *testing.T) {
	tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
	now := time.Now()
	began := processorTime(t)
	for i, r := range crowd(3000, cluster("c")) {
		r.Status, r.HistoryID = leader, fmt.Sprint(i)
		tab.say(now, r)
	}
	for range 6 {
		now = now.Add(10 * time.Second)
		tab.expire(now)
	}
	if d := processorTime(t) - began; d > 20*time.Second {
		t.Errorf("it took %v of a processor", d)
	} else {
		t.Log("it took", d)
	}
	if rows := tab.query(filter{}); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}

// processorTime is what this process has used, which does not depend on other processes.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestSlowWatchersAreBounded has watchers fetch nothing while many rows change: what
// they miss is bounded, for each and together, and they are told to begin again.
func TestSlowWatchersAreBounded(t *testing.T) {
	tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
	slow, _ := tab.watch(filter{})
	tab.say(time.Now(), crowd(maxPending+1)...)
	if _, _, err := tab.fetch(slow); err != errTooSlow {
		t.Error(err)
	}
	tab.unwatch(slow)
	if tab.pending != 0 || len(tab.watchers) != 0 {
		t.Errorf("%d changes of %d databases are left", tab.pending, len(tab.watchers))
	}

	slow, _ = tab.watch(filter{})
	tab.pending = maxAllPending // others have missed so much
	few := make([]*serverpb.RegionInfo, fewPending+1)
	for i := range few {
		few[i] = region(fmt.Sprintf("db/0/few%04d:1/dc1", i), slave)
	}
	tab.say(time.Now(), few[:fewPending]...)
	quick, rows := tab.watch(filter{})
	tab.say(time.Now(), few[fewPending:]...)
	if _, _, err := tab.fetch(slow); err != errTooSlow {
		t.Error(err)
	}
	if got := len(rows.sorted()); got != maxPending+1+fewPending {
		t.Errorf("%d rows", got)
	}
	if rows, _, err := tab.fetch(quick); err != nil || len(rows) != 1 {
		t.Error(rows, err)
	}
}
