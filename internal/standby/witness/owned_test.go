package witness

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/testkit"
)

func stands(context.Context) (kv.Ack, error) { return kv.AckSync, nil }

// wantNamed checks what the registry's record names.
func wantNamed(t *testing.T, o *office, disk string, want bool) {
	t.Helper()
	synctest.Wait()
	r, _, err := o.Book.Get(t.Context(), "db")
	if err != nil || (len(r.GetStandbys()) == 1 && r.GetStandbys()[0].GetDisk() == disk) != want {
		t.Fatalf("%v, %v; want %s: %t", r, err, disk, want)
	}
}

// TestTheRecordNamesOnlyWhatTheLogWaitsFor: a master that starts with another log than the record
// was made from gets no lease before the record names nothing that the log does not wait for.
func TestTheRecordNamesOnlyWhatTheLogWaitsFor(t *testing.T) {
	for _, l := range []*log{{owns: true}, {other: "1"}} {
		synctest.Test(t, func(t *testing.T) {
			o := newOffice()
			former := keeps(o, &log{owns: true})
			for range 3 {
				_ = former.renew(t.Context()) // the first one makes the record, the second one sets the length
			}
			if err := former.Enter(t.Context(), standby.Node{Disk: "d1", Address: "s:1"}, stands); err != nil {
				t.Fatal(err)
			}
			unknown := errors.New("the log does not answer")
			l := &log{owns: l.owns, registered: true, other: l.other, unlisted: []string{"d1"}, dead: unknown}
			k := keeps(o, l)
			testkit.Run(t, k.Run)
			time.Sleep(lasting)
			wantHeld(t, k, "the log does not answer")
			l.be(func() { l.dead = nil })
			time.Sleep(lasting)
			wantHeld(t, k, "")
			wantNamed(t, o, "d1", false)
			// Another one changes the record, for instance a registry that is restored.
			if err := former.Enter(t.Context(), standby.Node{Disk: "d1", Address: "s:1"}, stands); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lasting)
			wantNamed(t, o, "d1", false)
			l.be(func() { l.unlisted = nil })
			if err := k.Enter(t.Context(), standby.Node{Disk: "d1", Address: "s:1"}, stands); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lasting)
			wantNamed(t, o, "d1", true)
			// The node gets a log in which it does not stand.
			l.be(func() { l.other, l.unlisted = "2", []string{"d1"} })
			time.Sleep(lasting)
			wantNamed(t, o, "d1", false)
			wantHeld(t, k, "")
		})
	}
}

// granted returns for how long the registry assumes a lease.
func granted(t *testing.T, o *office) time.Duration {
	t.Helper()
	res, err := o.GetRecord(t.Context(), &peerpb.GetRecordRequest{Database: "db"})
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(res.GetGrantedMillis()) * time.Millisecond
}

// TestNodesThatCanAnswerNothingLetTheLeaseEnd: the standby waits for masters only as long as one
// of them owns a log, and its logs accept changes.
func TestNodesThatCanAnswerNothingLetTheLeaseEnd(t *testing.T) {
	stalled := errors.New("the log accepts nothing")
	for name, l := range map[string]*log{"no log": {}, "stalled": {owns: true, dead: stalled}, "another one stalled": {other: "1", dead: stalled}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, l := newOffice(), &log{owns: l.owns, other: l.other, dead: l.dead}
				dead, owns := l.dead, l.owns
				l.be(func() { l.owns, l.dead = true, nil })
				k := keeps(o, l)
				testkit.Run(t, k.Run)
				time.Sleep(lasting)
				wantHeld(t, k, "")
				l.be(func() { l.owns, l.dead = owns, dead })
				time.Sleep(3 * lasting)
				if left := granted(t, o); left != 0 {
					t.Errorf("the registry assumes a lease for %v", left)
				}
				if k.Valid() {
					t.Error("the node has a lease")
				}
				l.be(func() { l.owns, l.dead = true, nil })
				time.Sleep(lasting / share)
				wantHeld(t, k, "")
			})
		})
	}
}

// TestANodeWithoutLogLearnsThatItIsReplaced, although it asks for no lease.
func TestANodeWithoutLogLearnsThatItIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, l := newOffice(), new(log)
		for range 3 {
			_ = keeps(o, &log{owns: true}).renew(t.Context())
		}
		k := keeps(o, l)
		testkit.Run(t, k.Run)
		time.Sleep(lasting)
		wantHeld(t, k, "owns the log of no vBucket")
		_, err := o.Claim(t.Context(), &peerpb.ClaimRequest{Database: "db", Era: 1, Version: k.Record().GetVersion(), Promotion: "next", History: "2-h", Force: true})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(lasting)
		wantHeld(t, k, "era 2")
		select {
		case <-k.Superseded():
		default:
			t.Error("it does not know that it is replaced")
		}
	})
}

// TestUnlistedIsWhatDoesNotStandInALog, or at a lower level than the record says.
func TestUnlistedIsWhatDoesNotStandInALog(t *testing.T) {
	for _, c := range []struct {
		phase       standby.Phase
		level, says kv.Ack
		want        []string
	}{
		{standby.Standing, kv.AckSync, kv.AckSync, []string{"x"}},
		{standby.Standing, kv.AckSync, kv.AckDefault, []string{"x"}},
		{standby.Standing, kv.AckSemiSync, kv.AckSync, []string{"d", "x"}},
		{standby.Coming, kv.AckSync, kv.AckSync, []string{"d", "x"}},
		{standby.Leaving, kv.AckSync, kv.AckSync, []string{"d", "x"}},
	} {
		s := &saying{set: standby.Set{Level: c.level, Nodes: []standby.Node{{Disk: "d", Phase: c.phase}}}}
		got := s.unlisted([]*peerpb.StandbyNode{{Disk: "d", Level: uint32(c.says)}, {Disk: "x"}}, nil)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestSilenceOfTheRegistry is known of owners and of those that own nothing; an owner should hand its
// logs over only once its lease is about to end.
func TestSilenceOfTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		owner, other := keeps(o, &log{owns: true}), keeps(o, &log{})
		want := func(when string, silent, lapsing bool) {
			t.Helper()
			synctest.Wait()
			if owner.Silent() != silent || other.Silent() != silent || owner.Lapsing() != lapsing {
				t.Errorf("%s: silent %v and %v, lapsing %v", when, owner.Silent(), other.Silent(), owner.Lapsing())
			}
		}
		testkit.Run(t, owner.Run)
		testkit.Run(t, other.Run)
		time.Sleep(2 * lasting)
		want("while the registry answers", false, false)
		o.set(kv.Errorf(kv.Unavailable, "no owner"), 0)
		time.Sleep(lasting / 2)
		want("before the lease ends", true, false)
		time.Sleep(lasting / 2)
		want("when it has ended", true, true)
		o.set(nil, 0)
		time.Sleep(2 * soon)
		want("when the registry answers again", false, false)
	})
}
