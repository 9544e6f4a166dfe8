package witness

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/testkit"
)

// wantOpen checks which logs' gates are open, one letter each.
func wantOpen(t *testing.T, k *Keeper, want string) {
	t.Helper()
	synctest.Wait()
	got := ""
	for _, g := range k.gates {
		if g.held() == nil {
			got += g.log.VBucket()
		}
	}
	if got != want {
		t.Fatalf("open are %q, want %q", got, want)
	}
}

// TestALogThatStandsStillKeepsTheLeaseFromNoOther: its own gate closes, and the gates of the
// others stay open, whichever it is.
func TestALogThatStandsStillKeepsTheLeaseFromNoOther(t *testing.T) {
	for stalled, rest := range map[string]string{"0": "1", "1": "0"} {
		synctest.Test(t, func(t *testing.T) {
			l := &log{owns: true, other: "1"}
			k := keeps(newOffice(), l)
			testkit.Run(t, k.Run)
			time.Sleep(lasting)
			wantOpen(t, k, "01")
			l.be(func() { l.stalled = stalled })
			for range 100 {
				time.Sleep(lasting / 10)
				if _, err := k.Gate(int(rest[0]-'0'), nil).Await(t.Context(), 1, kv.AckSync); err != nil {
					t.Fatal(err)
				}
			}
			wantOpen(t, k, rest)
			if err := k.Fault(); err == nil || !strings.Contains(err.Error(), "vBucket "+stalled) {
				t.Error(err)
			}
			began := time.Now()
			if err := k.Gate(int(stalled[0]-'0'), nil).Admit(t.Context(), kv.AckSync); kv.KindOf(err) != kv.Unavailable || time.Since(began) > lasting/share {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			l.be(func() { l.stalled = "" })
			time.Sleep(2 * lasting)
			wantOpen(t, k, "01")
			if err := k.Fault(); err != nil {
				t.Error(err)
			}
		})
	}
}

// lost is a node with the lease that loses its first log: it has the second one only. The record
// names d1.
func lost(t *testing.T, o *office) (*Keeper, *log) {
	l := &log{owns: true, other: "1"}
	k := keeps(o, l)
	testkit.Run(t, k.Run)
	time.Sleep(lasting)
	if err := k.Enter(t.Context(), standby.Node{Disk: "d1", Address: "s:1"}, stands); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lasting)
	wantOpen(t, k, "01")
	l.be(func() { l.owns = false })
	time.Sleep(time.Second)
	return k, l
}

// TestAGainedLogIsLookedAtBeforeItAnswers, at once and not with the next renewal. What does not
// stand in it is out of the record before the first answer.
func TestAGainedLogIsLookedAtBeforeItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k, l := lost(t, o)
		wantNamed(t, o, "d1", true)
		l.be(func() { l.owns, l.tenure, l.unlisted = true, 7, []string{"d1"} })
		began := time.Now()
		if err := k.Gate(0, nil).Admit(t.Context(), kv.AckSync); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > look {
			t.Errorf("it was looked at after %v", took)
		}
		wantNamed(t, o, "d1", false)
		wantOpen(t, k, "01")
	})
}

// TestALogThatWasGainedBackIsClosed although the lease that it was opened with still runs: another
// node has owned it.
func TestALogThatWasGainedBackIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k, l := lost(t, o)
		o.set(errors.New("cut off"), 0)
		l.be(func() { l.owns, l.tenure = true, 7 })
		began := time.Now()
		if _, err := k.Gate(0, nil).Await(t.Context(), 1, kv.AckSync); kv.KindOf(err) != kv.NotConfirmed || time.Since(began) > lasting/share {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if !k.Valid() {
			t.Error("the node's lease has ended")
		}
		o.set(nil, 0)
		time.Sleep(lasting / share)
		wantOpen(t, k, "01")
	})
}

// TestALogThatIsTakenOverSlowly gets the lease once its new owner may write, not a renewal later:
// the owner waits until the lease of the owner before has ended.
func TestALogThatIsTakenOverSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, l := lost(t, newOffice())
		goesOn := make(chan struct{})
		l.be(func() { l.owns, l.stalled, l.goesOn = true, "0", goesOn })
		time.Sleep(2 * look)
		l.be(func() { l.tenure = 7 })
		time.Sleep(lasting / share)
		wantOpen(t, k, "1")
		l.be(func() { l.stalled = "" })
		close(goesOn)
		began := time.Now()
		if err := k.Gate(0, nil).Admit(t.Context(), kv.AckSync); err != nil || time.Since(began) > look {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		wantOpen(t, k, "01")
	})
}
