package witness

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/discovery/record"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/standby"
)

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
	// other is a further log that the node owns, of those in names; empty for none.
	other string
	// unlisted are disks that do not stand, and dead is why the logs do not answer.
	unlisted []string
	dead     error
	// stalled is a log that answers no question until goesOn is closed; empty for none. tenure is
	// that of all logs.
	stalled string
	goesOn  chan struct{}
	tenure  uint64
	// asked is called before the answer which disks stand; nil is not.
	asked func()
	// unleased is why not all logs say that answers need the lease; nil if they do.
	unleased error
}

// names are those of the vBuckets.
var names = []string{"0", "1", "2"}

func (l *log) Logs() (out []Log) {
	for _, name := range names {
		out = append(out, one{l, name})
	}
	return out
}

// one is one of the logs.
type one struct {
	*log
	name string
}

func (o one) VBucket() string { return o.name }

func (o one) Owned() bool {
	o.Lock()
	defer o.Unlock()
	return o.owns && o.name == "0" || o.name == o.other
}

func (o one) Tenure() uint64 {
	o.Lock()
	defer o.Unlock()
	return o.tenure
}

func (o one) Ask(ctx context.Context) (standby.Set, error) {
	o.Lock()
	defer o.Unlock()
	if o.stalled == o.name {
		goesOn := o.goesOn
		o.Unlock()
		select {
		case <-goesOn:
		case <-ctx.Done():
		}
		o.Lock()
		if ctx.Err() != nil {
			return standby.Set{}, context.Cause(ctx)
		}
	}
	if o.asked != nil {
		o.asked()
	}
	set := standby.Set{Level: kv.AckSync, Registered: o.registered}
	for _, disk := range []string{"d", "d1"} {
		if !slices.Contains(o.unlisted, disk) {
			set.Nodes = append(set.Nodes, standby.Node{Disk: disk, Phase: standby.Standing})
		}
	}
	return set, o.dead
}

// be changes what the logs are.
func (l *log) be(how func()) {
	l.Lock()
	defer l.Unlock()
	how()
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
