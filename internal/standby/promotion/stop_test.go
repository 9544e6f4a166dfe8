package promotion_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// keeper is a master that keeps a log with others, which has no owner.
type keeper struct {
	vBucket promotion.StoppedVBucket
	// by is the promotion that has stopped it, ended the one whose stop has ended.
	by, ended, token string
	// down is why it does not answer; nil if it does. silent is why it does not once it has stopped.
	down, silent error
	leased       bool
}

func (m master) Stop(_ context.Context, address, id string) (promotion.StoppedDatabase, error) {
	return m.stop(address, id, false)
}

func (m master) Keepers(_ context.Context, address, id string) (promotion.StoppedDatabase, error) {
	return m.stop(address, id, true)
}

func (m master) stop(address, id string, look bool) (promotion.StoppedDatabase, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keepers[address]
	switch {
	case k == nil && m.down != nil:
		return promotion.StoppedDatabase{}, m.down
	case k == nil:
		return promotion.StoppedDatabase{}, kv.Errorf(kv.NotOwner, "it keeps its log alone")
	case k.down != nil:
		return promotion.StoppedDatabase{}, k.down
	case k.by != "" && k.by != id || k.ended == id:
		return promotion.StoppedDatabase{}, kv.Errorf(kv.Precondition, "its stop was ended")
	case !look && k.by == "":
		k.by, k.token = id, kv.NewID()
	}
	out := promotion.StoppedDatabase{Deployment: "d", VBuckets: []promotion.StoppedVBucket{k.vBucket}, Leased: k.leased}
	if k.by != "" {
		out.Token = k.token
		if k.down = k.silent; k.down != nil && !look {
			return promotion.StoppedDatabase{}, k.down
		}
	}
	return out, nil
}

func (m master) Resume(_ context.Context, address, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keepers[address]
	if k.down != nil {
		return k.down
	}
	if k.ended = id; k.by == id {
		k.by = ""
	}
	return nil
}

// newKeepers is a world whose master cannot be sealed: three nodes keep its log, and none owns it.
func newKeepers() *world {
	w := &world{applied: 7, written: 9, down: unreachable, keepers: map[string]*keeper{}}
	for i, last := range []uint64{9, 12, 10} {
		w.keepers[[]string{"k:1", "k:2", "k:3"}[i]] = &keeper{vBucket: promotion.StoppedVBucket{
			Name: "default", History: former, Replica: uint64(i + 1), Term: 3, Last: last, End: last, Voters: [][]uint64{{1, 2, 3}}, Lease: time.Millisecond,
		}}
	}
	return w
}

func (w *world) stopped() (out []string) {
	for address, k := range w.keepers {
		if k.by != "" {
			out = append(out, address)
		}
	}
	slices.Sort(out)
	return out
}

// A majority that stops is a fence: the slave gets all that the best log has, which a node that
// does not answer may have acknowledged.
func TestMastersThatStop(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(*world)
		end  kv.Index
		from string
	}{
		{"all answer", func(*world) {}, 12, "k:2"},
		{"one does not", func(w *world) { w.keepers["k:2"].down = unreachable }, 10, "k:3"},
		{"a later term is better than more entries", func(w *world) { w.keepers["k:1"].vBucket.Term = 4 }, 9, "k:1"},
		{"one does not answer any more after it has stopped", func(w *world) { w.keepers["k:2"].silent = unreachable }, 10, "k:3"},
	} {
		w, dir := newKeepers(), t.TempDir()
		c.with(w)
		_, asked, ran := w.promote(t, dir, promotion.Request{})
		r := recordOf(t, dir)
		if asked != nil || !errors.Is(ran, promotion.ErrDecided) || r.Fence != "stop" || r.Cuts["default"] != (promotion.Cut{Former: former, Seal: c.end, End: c.end, Source: c.from}) {
			t.Errorf("%s: %v, %v, %+v", c.name, asked, ran, r)
		}
	}
}

// Too few stop for nothing: it is said which are missing, and nothing is left stopped.
func TestMinorityDoesNotStop(t *testing.T) {
	for _, c := range []struct {
		name, says string
		with       func(*world)
	}{
		{"a minority answers", "only k:1 would stop, and not k:2: connection refused; k:3: connection refused", func(w *world) {
			w.keepers["k:2"].down, w.keepers["k:3"].down = unreachable, unreachable
		}},
		{"the best log adds voters", "3 of the 6 masters", func(w *world) {
			w.keepers["k:2"].vBucket.Voters = [][]uint64{{1, 2, 3}, {1, 2, 3, 4, 5, 6}}
		}},
		{"nodes without a vote do not count", "1 of the 3 masters", func(w *world) {
			w.keepers["k:1"].vBucket.Replica, w.keepers["k:3"].vBucket.Replica = 4, 5
		}},
		{"another promotion has stopped one", "its stop was ended", func(w *world) { w.keepers["k:3"].by = "q" }},
		{"a sealed master", "another promotion has sealed", func(w *world) {
			w.keepers["k:3"].down = kv.Errorf(kv.Precondition, "another promotion has sealed it")
		}},
		{"what is behind cannot be given", "cannot give the changes in between: a restore", func(w *world) { w.keepers["k:2"].vBucket.Fault = "a restore" }},
	} {
		w, dir := newKeepers(), t.TempDir()
		c.with(w)
		_, asked, ran := w.promote(t, dir, promotion.Request{})
		if asked == nil || ran != nil || !strings.Contains(asked.Error(), c.says) {
			t.Errorf("%s: %v, %v", c.name, asked, ran)
		}
		if left := w.stopped(); recordOf(t, dir) != nil && recordOf(t, dir).Step != promotion.Abandoning || len(left) > 0 && left[0] != "k:3" {
			t.Errorf("%s: %v are stopped, %+v", c.name, left, recordOf(t, dir))
		}
	}
}

// A promotion that is given up has those that have stopped take part again, also one that does not
// answer at first.
func TestStopIsUndone(t *testing.T) {
	w, dir := newKeepers(), t.TempDir()
	w.keepers["k:2"].silent, w.keepers["k:3"].silent = unreachable, unreachable
	_, asked, ran := w.promote(t, dir, promotion.Request{})
	if r := recordOf(t, dir); asked == nil || ran != nil || r == nil || r.Step != promotion.Abandoning || len(r.Stopped) != 2 || !slices.Equal(w.stopped(), []string{"k:2", "k:3"}) {
		t.Fatalf("%v, %v, %+v, stopped %v", asked, ran, r, w.stopped())
	}
	for _, k := range w.keepers {
		k.down, k.silent = nil, nil
	}
	if _, asked, _ = w.promote(t, dir, promotion.Request{Abandon: true}); recordOf(t, dir) != nil || len(w.stopped()) > 0 {
		t.Errorf("%v, %+v, stopped %v", asked, recordOf(t, dir), w.stopped())
	}
}

// A founder that was started again asks whether the stops have held.
func TestStopThatWasEndedByHand(t *testing.T) {
	w, dir := newKeepers(), t.TempDir()
	w.crash = "seal slave"
	if _, asked, _ := w.promote(t, dir, promotion.Request{}); asked == nil {
		t.Fatal("no crash")
	}
	before := recordOf(t, dir)
	if before.Step != promotion.Fenced || len(w.stopped()) != 3 {
		t.Fatalf("%+v, stopped %v", before, w.stopped())
	}
	k := w.keepers["k:1"]
	k.by, k.ended = "", k.by
	_, asked, ran := w.promote(t, dir, promotion.Request{}) // begins another one
	if r := recordOf(t, dir); !errors.Is(ran, promotion.ErrDecided) || asked != nil || r.ID == before.ID || k.by != r.ID {
		t.Errorf("%v, %v, %+v, stopped %v", asked, ran, r, w.stopped())
	}
}
