package witness

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/discovery/record"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestKeeper makes the record, keeps its lease, and loses it when the registry is cut off.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, l := newOffice(), &log{owns: true}
		k, other := keeps(o, l), keeps(o, &log{other: "1"})
		wantHeld(t, k, "has not been asked")
		testkit.Run(t, other.Run)
		wantHeld(t, other, "no record in the registry yet")
		testkit.Run(t, k.Run)
		time.Sleep(lasting / 2)
		wantHeld(t, k, "")
		wantHeld(t, other, "")
		if !l.registered || k.Record().GetVersion() != 2 || len(k.Record().GetAddresses()) != 1 {
			t.Errorf("%v %v", l.registered, k.Record())
		}
		time.Sleep(time.Hour)
		wantHeld(t, k, "")
		o.set(errors.New("cut off"), 0)
		time.Sleep(lasting / share * 2)
		wantHeld(t, k, "")
		time.Sleep(lasting)
		wantHeld(t, k, "cut off")
		o.set(nil, 0)
		time.Sleep(lasting / 2)
		wantHeld(t, k, "")
	})
}

// TestLeaseCountsFromTheRequest: an answer that was under way for long is worth less.
func TestLeaseCountsFromTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k := keeps(o, &log{owns: true})
		for range 2 {
			if err := k.renew(t.Context()); err == nil {
				t.Fatal("the record was not there, or had no length of leases")
			}
		}
		o.set(nil, 6*time.Second)
		if err := k.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4*time.Second - 1)
		wantHeld(t, k, "")
		time.Sleep(time.Nanosecond)
		wantHeld(t, k, "could not be renewed in time")
	})
}

// TestLostRecordGrantsNothing: only a database that never had one makes it.
func TestLostRecordGrantsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k := keeps(o, &log{owns: true, registered: true})
		testkit.Run(t, k.Run)
		time.Sleep(time.Minute)
		wantHeld(t, k, "dkvctl -claim")
		_, err := o.Claim(t.Context(), &peerpb.ClaimRequest{Database: "db", Promotion: "masters", History: "1-h", Force: true, Becomes: 1})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(lasting)
		wantHeld(t, k, "")
		if k.Record().GetLeaseMillis() != 10_000 {
			t.Errorf("%v", k.Record())
		}
	})
}

// TestClaimWithoutOperator: the candidate hears of nothing before the last lease has ended,
// and the masters notice that they were replaced.
func TestClaimWithoutOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k := keeps(o, &log{owns: true})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- k.Run(ctx) }()
		time.Sleep(lasting)
		if err := k.Enter(t.Context(), standby.Node{Disk: "d", Address: "s:1"}, stands); err != nil {
			t.Fatal(err)
		}
		c := &Candidate{Registry: o, Database: "db", Disk: "d", Era: func() uint64 { return 1 }}
		patience, cancel := context.WithTimeout(t.Context(), time.Hour)
		if r, err := c.WatchForClaim(patience); err == nil {
			t.Fatalf("while a master lives: %v", r)
		}
		cancel()
		time.Sleep(time.Second) // so that the master ends between two renewals
		stop()
		<-ended
		wantHeld(t, k, "")
		began := time.Now()
		r, err := c.WatchForClaim(t.Context())
		if took := time.Since(began); err != nil || took > standby.Outlasts(lasting)+minPause {
			t.Fatalf("%v after %v", err, took)
		}
		wantHeld(t, k, "ended")
		if got, err := c.Claim(t.Context(), r, "next", "2-h", "s:1"); err != nil || !got.GetGiven() {
			t.Fatalf("%v, %v", got, err)
		}
		testkit.Run(t, k.Run)
		<-k.Superseded()
		wantHeld(t, k, "era 2")
	})
}

// TestCandidateHearsInTime: a slave that is entered between two of its questions, or asks while the
// registry answers nothing, replaces the masters as soon as the registry lets it.
func TestCandidateHearsInTime(t *testing.T) {
	const length = time.Second
	enter := func(o *office) {
		for i, r := range []*peerpb.Record{{}, {LeaseMillis: uint64(length.Milliseconds()), Standbys: []*peerpb.StandbyNode{{Disk: "d", Address: "s:1"}}}} {
			r.Database, r.Era, r.Deployment = "db", 1, "masters"
			if _, err := o.Book.Change(context.Background(), &peerpb.ChangeRecordRequest{Record: r, Expected: uint64(i)}); err != nil {
				t.Error(err)
			}
		}
	}
	for name, happens := range map[string]func(o *office){
		"entered between two questions": enter,
		"the registry answers again": func(o *office) {
			enter(o)
			o.set(kv.Errorf(kv.Unavailable, "no owner"), 0)
			time.Sleep(standby.Outlasts(length) - 1)
			o.set(nil, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice()
				c := &Candidate{Registry: o, Database: "db", Disk: "d", Lease: length, Era: func() uint64 { return 1 }}
				var began time.Time
				go func() { time.Sleep(minPause); began = time.Now(); happens(o) }()
				if _, err := c.WatchForClaim(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began) - standby.Outlasts(length); took < 0 || took > length/looksPerLease {
					t.Errorf("found %v after the last lease had ended", took)
				}
			})
		})
	}
}

// TestEnter: a node that is taken out while its entry is prepared is not entered, nor is one
// that does not stand.
func TestEnter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeps(newOffice(), &log{owns: true})
		node := standby.Node{Disk: "d", Address: "s:1"}
		if err := k.Enter(t.Context(), node, stands); kv.KindOf(err) != kv.Precondition {
			t.Errorf("without a record: %v", err)
		}
		_ = k.renew(t.Context()) // makes the record
		leaves := func(ctx context.Context) (kv.Ack, error) { return kv.AckSync, k.Leaving(ctx, []string{"d"}) }
		if err := k.Enter(t.Context(), node, leaves); kv.KindOf(err) != kv.Precondition {
			t.Errorf("taken out meanwhile: %v", err)
		}
		fails := errors.New("does not stand")
		if err := k.Enter(t.Context(), node, func(context.Context) (kv.Ack, error) { return 0, fails }); !errors.Is(err, fails) {
			t.Errorf("%v", err)
		}
		for range 2 {
			if err := k.Enter(t.Context(), node, stands); err != nil {
				t.Error(err)
			}
		}
		if r, err := k.read(t.Context()); err != nil || len(r.GetStandbys()) != 1 || r.GetVersion() != 3 || r.GetStandbys()[0].GetLevel() != uint32(kv.AckSync) {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// TestEntryGetsALevel: one of an earlier release gets the level once the owners say it.
func TestEntryGetsALevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeps(newOffice(), &log{owns: true})
		_ = k.renew(t.Context()) // makes the record
		for _, c := range []struct {
			level   kv.Ack
			version uint64
		}{{kv.AckDefault, 2}, {kv.AckDefault, 2}, {kv.AckSemiSync, 3}, {kv.AckSync, 3}} {
			err := k.Enter(t.Context(), standby.Node{Disk: "d", Address: "s:1"}, func(context.Context) (kv.Ack, error) { return c.level, nil })
			if r, _ := k.read(t.Context()); err != nil || r.GetVersion() != c.version || k.Unlevelled("d") != (r.GetStandbys()[0].GetLevel() == 0) {
				t.Errorf("at %v: %v, %v", c.level, r, err)
			}
		}
	})
}

// TestLeasesComeAfterTheLogs: the record says how long leases last only once all logs say that
// answers need one, since standbys may claim from then on.
func TestLeasesComeAfterTheLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, l := newOffice(), &log{owns: true, unleased: errors.New("vBucket 1 knows nothing")}
		k := keeps(o, l)
		testkit.Run(t, k.Run)
		time.Sleep(lasting)
		wantHeld(t, k, "vBucket 1 knows nothing")
		if r := k.Record(); r.GetVersion() != 1 || r.GetLeaseMillis() != 0 {
			t.Errorf("%v", r)
		}
		l.Lock()
		l.unleased = nil
		l.Unlock()
		time.Sleep(lasting)
		wantHeld(t, k, "")
		if r := k.Record(); r.GetLeaseMillis() != uint64(lasting.Milliseconds()) {
			t.Errorf("%v", r)
		}
	})
}

// TestRecordThatWentBackNamesNoStandby: a registry that was restored from a backup may name
// standbys that owners no longer wait for.
func TestRecordThatWentBackNamesNoStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k := keeps(o, &log{owns: true})
		testkit.Run(t, k.Run)
		time.Sleep(lasting)
		if err := k.Enter(t.Context(), standby.Node{Disk: "d1", Address: "s:1"}, stands); err != nil {
			t.Fatal(err)
		}
		key := record.Prefix + "db"
		old, _ := o.store.Read(t.Context(), []byte(key))
		if err := k.Leaving(t.Context(), []string{"d1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lasting)
		wantHeld(t, k, "")
		if k.Names("d1") {
			t.Error("the record still names what has left")
		}
		o.store.mu.Lock()
		o.store.values[key] = old
		o.store.mu.Unlock()
		time.Sleep(lasting)
		wantHeld(t, k, "")
		if k.Names("d1") {
			t.Errorf("the restored record names a standby that had left: %v", k.Record())
		}
	})
}

// TestTheRecordWentBackBetweenTwoRenewals: what this node has changed itself it knows before the
// next renewal.
func TestTheRecordWentBackBetweenTwoRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k := keeps(o, &log{owns: true})
		testkit.Run(t, k.Run)
		time.Sleep(lasting)
		if err := k.Enter(t.Context(), standby.Node{Disk: "d1", Address: "s:1"}, stands); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lasting)
		wantNamed(t, o, "d1", true)
		key := record.Prefix + "db"
		old, _ := o.store.Read(t.Context(), []byte(key))
		if err := k.Leaving(t.Context(), []string{"d1"}); err != nil {
			t.Fatal(err)
		}
		o.store.mu.Lock()
		o.store.values[key] = old
		o.store.mu.Unlock()
		time.Sleep(lasting)
		wantHeld(t, k, "")
		wantNamed(t, o, "d1", false)
	})
}

// TestAChangeDuringARenewalIsNoRestore: the registry may have granted the lease before it.
func TestAChangeDuringARenewalIsNoRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k := keeps(o, &log{owns: true})
		for range 3 {
			_ = k.renew(t.Context()) // the first one makes the record, the second one sets the length
		}
		o.after = func() {
			o.after = nil
			if err := k.Enter(t.Context(), standby.Node{Disk: "d1", Address: "s:1"}, stands); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if err := k.renew(t.Context()); err != nil {
				t.Error(err)
			}
		}
		wantNamed(t, o, "d1", true)
	})
}

// TestTheLeaseIsAsLongAsItWasGranted, although another owner changes the length meanwhile.
func TestTheLeaseIsAsLongAsItWasGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		first := keeps(o, &log{owns: true})
		for range 3 {
			_ = first.renew(t.Context()) // the first one makes the record, the second one sets the length
		}
		if err := first.Enter(t.Context(), standby.Node{Disk: "d1", Address: "s:1"}, stands); err != nil {
			t.Fatal(err)
		}
		first.opts.Lease = 2 * lasting
		l := &log{other: "1", unlisted: []string{"d1"}}
		o.after = func() {
			o.after = nil
			l.asked = func() { l.asked = nil; _ = first.renew(t.Context()) }
		}
		k := keeps(o, l)
		if err := k.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if k.Record().GetLeaseMillis() != uint64(2*lasting.Milliseconds()) {
			t.Fatalf("the length was not changed: %v", k.Record())
		}
		if left := k.Remaining(); left > lasting {
			t.Errorf("the node has a lease for %v, and was granted %v", left, lasting)
		}
	})
}

// TestGate looks at the lease before and after what it waits for.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeps(newOffice(), &log{owns: true})
		g := k.Gate(0, waits(lasting))
		if err := g.Admit(t.Context(), kv.AckSync); kv.KindOf(err) != kv.Unavailable {
			t.Errorf("%v", err)
		}
		for range 3 {
			_ = k.renew(t.Context()) // the first one makes the record, the second one sets the length
		}
		if err := g.Admit(t.Context(), kv.AckSync); err != nil {
			t.Error(err)
		}
		if _, err := g.Await(t.Context(), 1, kv.AckSync); kv.KindOf(err) != kv.NotConfirmed || kv.OutcomeOf(err) != kv.Unknown {
			t.Errorf("after the lease has ended: %v", err)
		}
		_ = k.renew(t.Context())
		g.next = nil
		if _, err := g.Await(t.Context(), 1, kv.AckSync); err != nil {
			t.Error(err)
		}
	})
}

// waits is a gate that takes its time.
type waits time.Duration

func (waits) Admit(context.Context, kv.Ack) error { return nil }

func (w waits) Await(context.Context, kv.Index, kv.Ack) (kv.Ack, error) {
	time.Sleep(time.Duration(w))
	return kv.AckSync, nil
}
