package witness

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/discovery/record"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is the registry's log.
type store struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (s *store) Read(_ context.Context, key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[string(key)], nil
}

func (s *store) Swap(_ context.Context, key, former, value []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(s.values[string(key)], former) {
		return false, nil
	}
	s.values[string(key)] = value
	return true, nil
}

func (s *store) Each(_ context.Context, use func(key, value []byte)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.values {
		use([]byte(k), v)
	}
	return nil
}

// office is a registry that can be cut off. It is its own clock, and that of the nodes.
type office struct {
	*record.Service
	store *store
	began time.Time

	mu  sync.Mutex
	cut error
	// slow is how long each request takes.
	slow time.Duration
	// after is called after each lease that was granted, before its answer is read.
	after func()
}

func (o *office) Renew(ctx context.Context, r *peerpb.RenewRequest) (*peerpb.RenewResponse, error) {
	res, err := o.Service.Renew(ctx, r)
	if o.after != nil {
		o.after()
	}
	return res, err
}

func (o *office) Now() time.Duration { return time.Since(o.began) }

func (o *office) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

func (o *office) reach(ctx context.Context, here func() error, _ func(context.Context, *peer.Peer) error) error {
	o.mu.Lock()
	cut, slow := o.cut, o.slow
	o.mu.Unlock()
	time.Sleep(slow)
	if cut != nil {
		return cut
	}
	return here()
}

func (o *office) set(cut error, slow time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cut, o.slow = cut, slow
}

func newOffice() *office {
	o := &office{store: &store{values: make(map[string][]byte)}, began: time.Now()}
	o.Service = &record.Service{Book: record.New(record.Options{Log: o.store, Clock: o}), AtOwner: o.reach}
	return o
}

// log is the logs of a node, with that of the first vBucket.
type log struct {
	sync.Mutex
	owns, registered bool
	// other is a further log that the node owns; empty for none.
	other string
	// unlisted are disks that do not stand, and dead is why the logs do not answer.
	unlisted []string
	dead     error
	// asked is called before the answer which disks do not stand; nil is not.
	asked func()
	// unleased is why not all logs say that answers need the lease; nil if they do.
	unleased error
}

func (l *log) Owns() bool {
	l.Lock()
	defer l.Unlock()
	return l.owns
}

func (l *log) Owned() (out []string) {
	l.Lock()
	defer l.Unlock()
	if l.owns {
		out = append(out, "0")
	}
	if l.other != "" {
		out = append(out, l.other)
	}
	return out
}

// be changes what the logs are.
func (l *log) be(how func()) {
	l.Lock()
	defer l.Unlock()
	how()
}

func (l *log) Unlisted(_ context.Context, standbys []*peerpb.StandbyNode) ([]string, error) {
	l.Lock()
	defer l.Unlock()
	if l.asked != nil {
		l.asked()
	}
	disks := disksOf(&peerpb.Record{Standbys: standbys})
	return slices.DeleteFunc(disks, func(d string) bool { return !slices.Contains(l.unlisted, d) }), l.dead
}

func (l *log) Accept(context.Context) error {
	l.Lock()
	defer l.Unlock()
	return l.dead
}

func (l *log) Registered(context.Context) (bool, error) {
	l.Lock()
	defer l.Unlock()
	return l.registered, l.dead
}

func (l *log) Leased(context.Context) error {
	l.Lock()
	defer l.Unlock()
	return l.unleased
}

func (l *log) SetRegistered(context.Context) error {
	l.Lock()
	defer l.Unlock()
	l.registered = true
	return nil
}

const lasting = 10 * time.Second

func keeps(o *office, l *log) *Keeper {
	return New(Options{
		Registry: o, Database: "db", Address: "m:1", Lease: lasting, Standing: l, Clock: o,
		Masters: func() Masters { return Masters{Era: 1, Deployment: "masters", History: "1-h"} },
	})
}

func wantHeld(t *testing.T, k *Keeper, want string) {
	t.Helper()
	synctest.Wait()
	err := k.Held()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Fatalf("%v, want %q", err, want)
	}
}

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
		time.Sleep(1)
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
			if r, _ := k.read(t.Context()); err != nil || r.GetVersion() != c.version {
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
		k := keeps(o, &log{other: "1", unlisted: []string{"d1"}, asked: func() { _ = first.renew(t.Context()) }})
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
		g := &Gate{Keeper: k, Next: waits(lasting)}
		if err := g.Admit(kv.AckSync); kv.KindOf(err) != kv.Unavailable {
			t.Errorf("%v", err)
		}
		for range 3 {
			_ = k.renew(t.Context()) // the first one makes the record, the second one sets the length
		}
		if err := g.Admit(kv.AckSync); err != nil {
			t.Error(err)
		}
		if _, err := g.Await(t.Context(), 1, kv.AckSync); kv.KindOf(err) != kv.NotConfirmed || kv.OutcomeOf(err) != kv.Unknown {
			t.Errorf("after the lease has ended: %v", err)
		}
		_ = k.renew(t.Context())
		g.Next = nil
		if _, err := g.Await(t.Context(), 1, kv.AckSync); err != nil {
			t.Error(err)
		}
	})
}

// waits is a gate that takes its time.
type waits time.Duration

func (waits) Admit(kv.Ack) error { return nil }

func (w waits) Await(context.Context, kv.Index, kv.Ack) (kv.Ack, error) {
	time.Sleep(time.Duration(w))
	return kv.AckSync, nil
}

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
