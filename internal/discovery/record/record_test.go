package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/storage"
)

// shelf is a log that several Books share.
type shelf struct {
	mu     sync.Mutex
	values map[string]string
	swaps  int
	// lost makes the next Swap end in an error, and returns what may do it later.
	lost func(swap func())
	// slow makes the next Read wait until it is closed.
	slow chan struct{}
}

func newShelf() *shelf { return &shelf{values: make(map[string]string)} }

func (s *shelf) Read(_ context.Context, key []byte) ([]byte, error) {
	s.mu.Lock()
	slow := s.slow
	s.slow = nil
	s.mu.Unlock()
	if slow != nil {
		<-slow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, there := s.values[string(key)]; there {
		return []byte(v), nil
	}
	return nil, nil
}

func (s *shelf) Swap(_ context.Context, key, former, value []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	swap := func() bool {
		if s.values[string(key)] != string(former) {
			return false
		}
		s.values[string(key)] = string(value)
		s.swaps++
		return true
	}
	if lost := s.lost; lost != nil {
		s.lost = nil
		lost(func() { s.mu.Lock(); defer s.mu.Unlock(); swap() })
		return false, kv.UnknownOutcome(kv.Unavailable, errors.New("no answer"))
	}
	return swap(), nil
}

func (s *shelf) Each(_ context.Context, use func(key, value []byte)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.values {
		use([]byte(k), []byte(v))
	}
	return nil
}

// hand is a clock that a test moves.
type hand struct{ now time.Duration }

func (h *hand) Now() time.Duration { return h.now }

const lasting = 10 * time.Second

// desk is a node of the registry, for one test.
type desk struct {
	*testing.T
	*Book
	clock *hand
}

func newDesk(t *testing.T, s *shelf, clock *hand) *desk {
	return &desk{t, New(Options{Log: s, Clock: clock, Limit: 3}), clock}
}

func base() *peerpb.Record {
	return &peerpb.Record{Database: "db", Era: 2, Deployment: "masters", History: "2-h", LeaseMillis: uint64(lasting.Milliseconds())}
}

// change changes the record; want is a part of the error, or empty.
func (d *desk) change(expected uint64, edit func(*peerpb.Record), want string) *peerpb.Record {
	d.Helper()
	to := base()
	if edit != nil {
		edit(to)
	}
	got, err := d.Change(d.Context(), &peerpb.ChangeRecordRequest{Record: to, Expected: expected})
	d.compare(err, want)
	return got
}

func (d *desk) compare(err error, want string) {
	d.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		d.Fatalf("%v, want %q", err, want)
	}
}

func (d *desk) renew(era uint64, deployment string, want bool) {
	d.Helper()
	_, granted, err := d.Renew(d.Context(), &peerpb.RenewRequest{Database: "db", Era: era, Deployment: deployment, Address: "m:1"})
	if err != nil || granted != want {
		d.Fatalf("granted %v, %v; want %v", granted, err, want)
	}
}

func claim(version uint64) *peerpb.ClaimRequest {
	return &peerpb.ClaimRequest{Database: "db", Era: 2, Version: version, Disks: []string{"d1"}, Promotion: "next", History: "3-h", Addresses: []string{"s:1"}}
}

// claims claims the next era; want is a part of the reason, empty if it is given.
func (d *desk) claims(r *peerpb.ClaimRequest, want string) *peerpb.ClaimResponse {
	d.Helper()
	got, err := d.Claim(d.Context(), r)
	if err != nil || got.GetGiven() != (want == "") || !strings.Contains(got.GetReason(), want) {
		d.Fatalf("%v, %v; want %q", got, err, want)
	}
	return got
}

func withStandby(r *peerpb.Record) {
	r.Standbys = []*peerpb.StandbyNode{{Disk: "d1", Address: "s:1"}}
}

// stands makes a record with a standby, of version 2.
func (d *desk) stands() {
	d.Helper()
	d.change(0, nil, "")
	d.change(1, withStandby, "")
}

// TestRecordChanges: a change needs the present version, and leaving raises it always.
func TestRecordChanges(t *testing.T) {
	d := newDesk(t, newShelf(), new(hand))
	d.change(1, nil, "was lost")
	d.change(0, withStandby, "without")
	d.change(0, nil, "")
	d.change(0, nil, "") // repeated
	d.change(0, withStandby, "version 1")
	if got := d.change(1, withStandby, ""); got.GetVersion() != 2 || len(got.GetStandbys()) != 1 {
		t.Errorf("%v", got)
	}
	d.change(1, withStandby, "") // repeated
	d.change(1, nil, "version 2")
	d.change(2, func(r *peerpb.Record) { r.Era = 3 }, "era 2")
	d.change(2, func(r *peerpb.Record) { r.Deployment = "others" }, "deployment masters")
	for version, disks := range [][]string{3: {"none"}, 4: {"d1"}} {
		if disks == nil {
			continue
		}
		got, err := d.Change(t.Context(), &peerpb.ChangeRecordRequest{Record: base(), Leaving: disks})
		if err != nil || got.GetVersion() != uint64(version) || len(got.GetStandbys()) != 4-version || got.GetHistory() != "2-h" {
			t.Errorf("leaving %q: %v, %v", disks, got, err)
		}
	}
}

// TestGrants: only masters of the record get a lease, and no era is given while one may run.
func TestGrants(t *testing.T) {
	clock := new(hand)
	d := newDesk(t, newShelf(), clock)
	d.renew(2, "masters", false)
	d.stands()
	d.renew(1, "masters", false)
	d.renew(2, "others", false)
	clock.now = time.Hour
	d.renew(2, "masters", true)
	if got := d.claims(claim(2), "may hold a lease"); got.GetRetryMillis() < uint64(lasting.Milliseconds()) {
		t.Errorf("%v", got)
	}
	clock.now += standby.Outlasts(lasting) - 1
	d.claims(claim(2), "may hold a lease")
	clock.now += 2
	got := d.claims(claim(2), "")
	want := &peerpb.Record{Database: "db", Version: 3, Era: 3, Deployment: "next", History: "3-h", LeaseMillis: 10_000, Addresses: []string{"s:1"}}
	if !proto.Equal(got.GetRecord(), want) {
		t.Errorf("%v", got)
	}
	d.claims(claim(2), "") // repeated
	other := claim(2)
	other.Promotion = "another"
	d.claims(other, "another promotion has been decided")
	d.renew(2, "masters", false)
	d.renew(3, "next", true)
}

// TestClaimsThatNeedMore: what is no standby of the record needs a fence or force, and so
// does what masters need no lease for.
func TestClaimsThatNeedMore(t *testing.T) {
	clock := new(hand)
	d := newDesk(t, newShelf(), clock)
	d.claims(claim(0), "no record")
	d.stands()
	d.renew(2, "masters", true)
	d.claims(claim(1), "version 2")
	stranger := claim(2)
	stranger.Disks = []string{"d2"}
	d.claims(stranger, "none of the nodes is a standby")
	d.change(2, func(r *peerpb.Record) { withStandby(r); r.LeaseMillis = 0 }, "")
	clock.now = time.Hour
	d.claims(claim(3), "need no lease")
	stranger.Version, stranger.Fenced = 3, true
	d.claims(stranger, "")
	forced := claim(4)
	forced.Era, forced.Promotion, forced.Force = 3, "forced", true
	d.claims(forced, "")
}

// TestForceNeedsALaterEra: two deployments never have the same era, unless masters that are there
// restate theirs.
func TestForceNeedsALaterEra(t *testing.T) {
	d := newDesk(t, newShelf(), new(hand))
	d.stands()
	forced := claim(2)
	forced.Force, forced.Becomes = true, 2
	d.claims(forced, "era 2 has masters already")
	forced.Becomes = 1
	d.claims(forced, "era 2 has masters already")
	forced.Becomes = 3
	d.claims(forced, "")
	d.claims(forced, "")
	restated := claim(3)
	restated.Era, restated.Promotion, restated.Force, restated.Becomes, restated.LeaseMillis = 3, "masters", true, 2, 10_000
	d.claims(restated, "")
}

// TestNextOwner: the next owner of the registry's log assumes that a lease was just granted,
// also if it owned the log before.
func TestNextOwner(t *testing.T) {
	log, one, two := newShelf(), new(hand), &hand{now: time.Hour}
	a, b := newDesk(t, log, one), newDesk(t, log, two)
	a.stands()
	a.renew(2, "masters", true)
	one.now += time.Minute
	b.claims(claim(2), "may hold a lease")
	b.renew(2, "masters", true)
	a.claims(claim(2), "may hold a lease")
	one.now += standby.Outlasts(lasting)
	a.claims(claim(2), "")
}

// TestReadersInTheWay: masters have their leases also while others read the record.
func TestReadersInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, clock := newShelf(), new(hand)
		d := newDesk(t, log, clock)
		d.stands()
		slow := make(chan struct{})
		log.slow = slow
		var readers sync.WaitGroup
		read := func(from *desk) {
			if r, left, err := from.Get(t.Context(), "db"); err != nil || r.GetVersion() != 2 || left != standby.Outlasts(lasting) {
				t.Errorf("%v, %v, %v", r, left, err)
			}
		}
		readers.Go(func() { read(d) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, granted, err := d.Renew(ctx, &peerpb.RenewRequest{Database: "db", Era: 2, Deployment: "masters"}); err != nil || !granted {
			t.Errorf("granted %v, %v", granted, err)
		}
		close(slow)
		readers.Wait()
		// Of those who ask the next owner at the same time one takes the record, for all.
		before, next := log.swaps, newDesk(t, log, clock)
		for range 10 {
			readers.Go(func() { read(next) })
		}
		readers.Wait()
		if n := log.swaps - before; n != 1 {
			t.Errorf("the record was taken %d times", n)
		}
	})
}

// TestClaimUnderWay: a claim of unknown outcome is void once a lease is granted after it.
func TestClaimUnderWay(t *testing.T) {
	clock, log := new(hand), newShelf()
	d := newDesk(t, log, clock)
	d.stands()
	clock.now = time.Minute
	var later func()
	log.lost = func(swap func()) { later = swap }
	if _, err := d.Claim(t.Context(), claim(2)); err == nil {
		t.Fatal("no error")
	}
	d.renew(2, "masters", true)
	later()
	d.renew(2, "masters", true)
	d.claims(claim(2), "may hold a lease")
}

// TestShorterLeases: a change of their length does not end what was granted before.
func TestShorterLeases(t *testing.T) {
	clock, log := new(hand), newShelf()
	d := newDesk(t, log, clock)
	d.stands()
	d.renew(2, "masters", true)
	d.change(2, func(r *peerpb.Record) { withStandby(r); r.LeaseMillis = 1000 }, "")
	clock.now = 2 * time.Second
	d.claims(claim(3), "may hold a lease")
	d.renew(2, "masters", true)
	next := newDesk(t, log, clock)
	next.claims(claim(3), "may hold a lease")
	clock.now += standby.Outlasts(lasting) - time.Second
	next.claims(claim(3), "may hold a lease")
	clock.now += 2 * time.Second
	next.renew(2, "masters", true)
	last := newDesk(t, log, clock)
	last.claims(claim(3), "may hold a lease")
	clock.now += standby.Outlasts(time.Second)
	last.claims(claim(3), "")
}

// Masters that say for the first time that they need a lease have it soon: a standby that the record
// names already does not take over meanwhile.
func TestFirstLengthOfLeases(t *testing.T) {
	d := newDesk(t, newShelf(), &hand{})
	d.change(0, func(r *peerpb.Record) { r.LeaseMillis = 0 }, "")
	d.change(1, func(r *peerpb.Record) { r.LeaseMillis = 0; withStandby(r) }, "")
	d.clock.now += time.Hour
	d.claims(claim(2), "the masters need no lease")
	d.change(2, withStandby, "")
	if _, left, err := d.Get(t.Context(), "db"); err != nil || left != standby.Outlasts(lasting) {
		t.Errorf("a lease may run for %v, %v", left, err)
	}
	d.claims(claim(3), "a master may hold a lease")
	d.clock.now += standby.Outlasts(lasting)
	d.claims(claim(3), "")
}

// So it is with new masters that enter a standby before they have their first lease. What changes
// nothing, or takes standbys out, is no sign of life.
func TestEntryOfAStandbyBeforeTheFirstLease(t *testing.T) {
	d := newDesk(t, newShelf(), &hand{})
	d.change(0, nil, "")
	d.clock.now += time.Hour
	d.change(1, withStandby, "")
	d.claims(claim(2), "a master may hold a lease")
	d.clock.now += standby.Outlasts(lasting)
	d.change(1, withStandby, "") // once more
	if _, err := d.Change(t.Context(), &peerpb.ChangeRecordRequest{Record: base(), Leaving: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	d.claims(claim(3), "")
}

// TestLostRecord: only an operator makes a record again, above all that was lost.
func TestLostRecord(t *testing.T) {
	d := newDesk(t, newShelf(), new(hand))
	again := &peerpb.ClaimRequest{Database: "db", Promotion: "masters", History: "2-h", Force: true, Becomes: 2, LeaseMillis: 10_000}
	made := d.claims(again, "").GetRecord()
	if made.GetEra() != 2 || made.GetVersion() < 1e12 {
		t.Errorf("%v", made)
	}
	d.renew(2, "masters", true)
	older := proto.CloneOf(again)
	older.Era, older.Version, older.Becomes, older.Promotion = 2, made.GetVersion(), 7, "newer"
	if got := d.claims(older, "").GetRecord(); got.GetEra() != 7 {
		t.Errorf("%v", got)
	}
}

// TestLimit bounds the number of records, and the memory of requests for others.
func TestLimit(t *testing.T) {
	d := newDesk(t, newShelf(), new(hand))
	for i := range 5 {
		_, err := d.Change(t.Context(), &peerpb.ChangeRecordRequest{Record: &peerpb.Record{Database: fmt.Sprint(i), Deployment: "m"}})
		if want := ""; i >= 3 {
			want = "limit"
			d.compare(err, want)
		} else {
			d.compare(err, want)
		}
		if _, _, err := d.Get(t.Context(), fmt.Sprint("none", i)); err != nil {
			t.Error(err)
		}
	}
	if n := len(d.terms); n != 3 {
		t.Errorf("%d are remembered", n)
	}
}

// TestDamagedRecord: nothing is granted by what cannot be read.
func TestDamagedRecord(t *testing.T) {
	log := newShelf()
	d := newDesk(t, log, new(hand))
	d.stands()
	raw := log.values[Prefix+"db"]
	for _, damaged := range []string{"x", "\x00" + raw[1:], raw[:len(raw)-4], strings.Replace(raw, "db", "dc", 1)} {
		log.values[Prefix+"db"] = damaged
		_, granted, err := d.Renew(t.Context(), &peerpb.RenewRequest{Database: "db", Era: 2, Deployment: "masters"})
		if granted || kv.KindOf(err) != kv.Corrupt {
			t.Errorf("%q: %v, %v", damaged, granted, err)
		}
	}
	if _, err := d.Claim(t.Context(), claim(2)); kv.KindOf(err) != kv.Corrupt {
		t.Errorf("a claim of a damaged record: %v", err)
	}
	d.claims(&peerpb.ClaimRequest{Database: "db", Promotion: "masters", History: "2-h", Force: true, Becomes: 2, LeaseMillis: 10_000}, "")
	d.renew(2, "masters", true)
}

// TestRecordOfALaterRelease: it is not damaged, so it cannot be made again by force either.
func TestRecordOfALaterRelease(t *testing.T) {
	log := newShelf()
	d := newDesk(t, log, new(hand))
	d.stands()
	log.values[Prefix+"db"] = "\x02" + log.values[Prefix+"db"][1:]
	_, granted, err := d.Renew(t.Context(), &peerpb.RenewRequest{Database: "db", Era: 2, Deployment: "masters"})
	if granted || !errors.Is(err, storage.ErrNewer) || !strings.Contains(err.Error(), "use the release that wrote it, or a newer one") {
		t.Errorf("%v, %v", granted, err)
	}
	force := &peerpb.ClaimRequest{Database: "db", Promotion: "masters", History: "2-h", Force: true, Becomes: 2, LeaseMillis: 10_000}
	if _, err := d.Claim(t.Context(), force); !errors.Is(err, storage.ErrNewer) {
		t.Errorf("made again: %v", err)
	}
}

// TestBadRequests: each is rejected with what is wrong.
func TestBadRequests(t *testing.T) {
	s := &Service{}
	long := strings.Repeat("x", 300)
	for i, c := range []struct {
		err  error
		want string
	}{
		{second(s.GetRecord(t.Context(), nil)), "database is empty"},
		{second(s.Renew(t.Context(), &peerpb.RenewRequest{Database: "db"})), "deployment is empty"},
		{second(s.Renew(t.Context(), &peerpb.RenewRequest{Database: long, Deployment: "m"})), "300 bytes"},
		{second(s.Renew(t.Context(), &peerpb.RenewRequest{Database: "a\x00b", Deployment: "m"})), "control character"},
		{second(s.ChangeRecord(t.Context(), nil)), "no record"},
		{second(s.ChangeRecord(t.Context(), &peerpb.ChangeRecordRequest{Record: &peerpb.Record{Database: "db", Deployment: "m", LeaseMillis: 5}})), "leases last between"},
		{second(s.ChangeRecord(t.Context(), &peerpb.ChangeRecordRequest{Record: &peerpb.Record{Database: "db", Deployment: "m"}, Leaving: slices.Repeat([]string{"d"}, 65)})), "65 entries"},
		{second(s.ChangeRecord(t.Context(), &peerpb.ChangeRecordRequest{Record: &peerpb.Record{Database: "db", Deployment: "m",
			Standbys: []*peerpb.StandbyNode{{Disk: "d", Address: "a:1"}, {Disk: "d", Address: "b:1"}}}})), "twice"},
		{second(s.Claim(t.Context(), &peerpb.ClaimRequest{Database: "db"})), "promotion is empty"},
		{second(s.Claim(t.Context(), &peerpb.ClaimRequest{Database: "db", Promotion: "p", History: "h", Becomes: 2})), "needs force"},
	} {
		if kv.KindOf(c.err) != kv.Invalid || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%d: %v, want %q", i, c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }
