package witness

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestMastersClaimALostRecord: an operator gives the record to masters of any era, again, and to
// no masters that a promotion has replaced.
func TestMastersClaimALostRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k := keeps(o, &log{owns: true, registered: true})
		testkit.Run(t, k.Run)
		time.Sleep(lasting)
		wantHeld(t, k, "dkvctl -claim")
		for _, want := range []string{"now", "already"} {
			if text, err := k.Claim(t.Context(), "1-h"); err != nil || !strings.Contains(text, want) {
				t.Errorf("%q, %v", text, err)
			}
		}
		time.Sleep(lasting)
		wantHeld(t, k, "")
		first := New(Options{Registry: o, Database: "db", Clock: o, Lease: lasting, Masters: func() Masters { return Masters{Deployment: "former"} }})
		if text, err := first.Claim(t.Context(), "h"); kv.KindOf(err) != kv.Precondition {
			t.Errorf("%q, %v", text, err)
		}
		fresh := New(Options{Registry: o, Database: "new", Address: "n:1", Clock: o, Lease: lasting, Masters: func() Masters { return Masters{Deployment: "first"} }})
		if _, err := fresh.Claim(t.Context(), "h"); err != nil {
			t.Error(err)
		}
		if r, _, err := o.Book.Get(t.Context(), "new"); err != nil || r.GetEra() != 0 || r.GetDeployment() != "first" {
			t.Errorf("%v, %v", r, err)
		}
		err := EndLeases(t.Context(), o, "db", k.opts.Masters())
		if r, _, _ := o.Book.Get(t.Context(), "db"); err != nil || r.GetLeaseMillis() != 0 {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// TestEndedLeasesAreNotSetAgain by an owner that has read the record before, although the record
// said already that no lease is needed.
func TestEndedLeasesAreNotSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice()
		k := keeps(o, &log{owns: true})
		first := &peerpb.Record{Database: "db", Era: 1, Deployment: k.opts.Masters().Deployment}
		if _, err := o.Book.Change(t.Context(), &peerpb.ChangeRecordRequest{Record: first}); err != nil {
			t.Fatal(err)
		}
		read, err := k.read(t.Context())
		if err != nil || read.GetLeaseMillis() != 0 {
			t.Fatalf("%v, %v", read, err)
		}
		if err := EndLeases(t.Context(), o, "db", k.opts.Masters()); err != nil {
			t.Fatal(err)
		}
		if err := k.setLength(t.Context(), read); err == nil {
			t.Error("the length of leases was set over the version before they were ended")
		}
		if r, _, err := o.Book.Get(t.Context(), "db"); err != nil || r.GetLeaseMillis() != 0 {
			t.Errorf("%v, %v", r, err)
		}
	})
}
