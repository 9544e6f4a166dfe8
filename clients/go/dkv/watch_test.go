package dkv

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// watched pulls the changes of a watch one by one.
type watched struct {
	t    *testing.T
	next func() (Change, error, bool)
	stop func()
}

func watch(t *testing.T, ctx context.Context, c *Client, prefix string, from Cursor) *watched {
	w := &watched{t: t}
	w.next, w.stop = iter.Pull2(c.Watch(ctx, []byte(prefix), from))
	t.Cleanup(w.stop)
	return w
}

// want checks that the next change is a put of these keys, in order.
func (w *watched) want(keys string) Change {
	w.t.Helper()
	ch, err, ok := w.next()
	if err != nil || !ok {
		w.t.Fatalf("want %q: %v, %v", keys, err, ok)
	}
	var got []string
	for _, m := range ch.Mutations {
		got = append(got, string(m.Key))
	}
	if strings.Join(got, " ") != keys {
		w.t.Fatalf("got %v, want %q", got, keys)
	}
	return ch
}

func (w *watched) fails(target error) {
	w.t.Helper()
	if ch, err, _ := w.next(); !errors.Is(err, target) {
		w.t.Fatalf("got %+v, %v; want %v", ch, err, target)
	}
	if _, _, ok := w.next(); ok {
		w.t.Fatal("something comes after the error")
	}
}

func TestWatch(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	put := func(keys ...string) {
		t.Helper()
		var pairs []Pair
		for _, k := range keys {
			pairs = append(pairs, Pair{Key: []byte(k), Value: []byte("v"), Expires: time.Unix(4e9, 0)})
		}
		must[uint64](t)(c.MultiPut(ctx, pairs...))
	}
	put("a0")
	w := watch(t, ctx, c, "a", must[Cursor](t)(c.Position(ctx)))
	put("b1")
	put("a2", "b2", "a3")
	ch := w.want("a2 a3")
	if m := ch.Mutations[1]; m.Deleted || string(m.Value) != "v" || m.Expires.Unix() != 4e9 {
		t.Errorf("%+v", m)
	}
	if ch.Index != 3 || ch.VBucket != "default" || ch.History != "h1" || time.Since(ch.Time).Abs() > enough {
		t.Errorf("%+v", ch)
	}
	must[uint64](t)(c.Delete(ctx, []byte("a2")))
	if m := w.want("a2").Mutations[0]; !m.Deleted || m.Value != nil {
		t.Errorf("%+v", m)
	}
	// The watch ends with its context.
	ended, cancel := context.WithCancel(ctx)
	w = watch(t, ended, c, "a", Cursor{"default": {}})
	w.want("a0")
	cancel()
	for { // what was under way may still come
		if _, err, ok := w.next(); err != nil || !ok {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			break
		}
	}
}

// A node that has lost touch with the others goes on to say that there are no changes. The
// watch leaves it for the new leader.
func TestWatchLeavesANodeThatIsCutOff(t *testing.T) {
	cl := newCluster(t, 2, 1)
	for _, opts := range [][]Option{nil, {WithFixedAddresses()}} {
		cl.lead(cl.nodes[0])
		cl.nodes[0].alone.Store(false)
		writer, c := ready(t, cl.addrs()), ready(t, cl.addrs(), opts...)
		ctx := testkit.Within(t, enough)
		w := watch(t, ctx, c, "", must[Cursor](t)(writer.Position(ctx)))
		must[uint64](t)(writer.Put(ctx, []byte("a"), nil))
		w.want("a")
		cl.nodes[0].alone.Store(true)
		cl.lead(cl.nodes[1])
		must[uint64](t)(writer.Put(ctx, []byte("b"), nil))
		w.want("b")
	}
}

// Whatever connection breaks and whichever node leads, each change comes once and in order.
func TestWatchGoesOn(t *testing.T) {
	const writes = 300
	cl := newCluster(t, 3, 2)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, 2*enough)
	cursor := must[Cursor](t)(c.Position(ctx))
	done := make(chan error, 1)
	go func() {
		for i := range writes {
			if _, err := c.Put(ctx, fmt.Append(nil, "k", i), nil); err != nil {
				done <- err
				return
			}
			switch i {
			case writes / 3:
				cl.lead(cl.nodes[1])
				cl.nodes[0].stop()
			case 2 * writes / 3:
				cl.lead(cl.nodes[2])
				cl.nodes[1].stop()
			}
		}
		done <- nil
	}()
	seen := make(map[string]bool)
	last := make(map[string]uint64)
	for ch, err := range c.Watch(ctx, []byte("k"), cursor) {
		if err != nil {
			t.Fatal(err)
		}
		key := string(ch.Mutations[0].Key)
		if seen[key] || ch.Index != last[ch.VBucket]+1 {
			t.Fatalf("change %d of vBucket %s after %d; %s was seen before: %v", ch.Index, ch.VBucket, last[ch.VBucket], key, seen[key])
		}
		seen[key], last[ch.VBucket] = true, ch.Index
		cursor.Advance(ch)
		if len(seen) == writes {
			break
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(cursor) != 2 || cursor["0"].Index+cursor["1"].Index != writes {
		t.Errorf("the cursor is %v", cursor)
	}
}

func TestWatchTrimmed(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	for range 5 {
		must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	}
	b := cl.vBuckets[0]
	cl.mu.Lock()
	b.floor, b.changes = 4, b.changes[3:]
	cl.mu.Unlock()
	watch(t, ctx, c, "", Cursor{"default": {Index: 2}}).fails(ErrTrimmed)
	watch(t, ctx, c, "", Cursor{"default": {Index: 3}}).want("k")
}

// How far back changes are kept is each node's own: a watch ends only if no master retains those
// that it lacks.
func TestWatchAtTheMasterThatRetainsTheChanges(t *testing.T) {
	for name, opts := range map[string][]Option{"": nil, "fixed addresses": {WithFixedAddresses()}} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 3, 1)
			cl.nodes[0].floor, cl.nodes[1].floor = 4, 3
			c := ready(t, cl.addrs(), opts...)
			if len(opts) == 0 {
				allReplicas(t, c, 3)
			}
			ctx := testkit.Within(t, enough)
			for i := range 5 {
				must[uint64](t)(c.Put(ctx, fmt.Append(nil, i), nil))
			}
			w := watch(t, ctx, c, "", Cursor{"default": {}})
			for i := range 5 {
				w.want(fmt.Sprint(i))
			}
			cl.mu.Lock()
			cl.nodes[2].floor = 2
			cl.mu.Unlock()
			watch(t, ctx, c, "", Cursor{"default": {}}).fails(ErrTrimmed)
			watch(t, ctx, c, "", Cursor{"default": {Index: 1}}).want("1")
		})
	}
}

// A watch of a keyspace that was replaced ends.
func TestWatchReplaced(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	cursor := must[Cursor](t)(c.Position(ctx))
	w := watch(t, ctx, c, "", cursor)
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	w.want("k")
	cl.mu.Lock()
	cl.history = "h2"
	close(cl.changed)
	cl.changed = make(chan struct{})
	cl.mu.Unlock()
	w.fails(ErrTrimmed)
	watch(t, ctx, c, "", cursor).fails(ErrTrimmed)
	// From now on, it is another one.
	w = watch(t, ctx, c, "", must[Cursor](t)(c.Position(ctx)))
	must[uint64](t)(c.Put(ctx, []byte("k2"), nil))
	w.want("k2")
}

// A watch goes on in the history that a promotion has begun, if that has what it has returned. A
// former master that does not know of the promotion gets no watch any more.
func TestWatchGoesOnAfterAPromotion(t *testing.T) {
	for name, opts := range map[string][]Option{"": nil, "fixed addresses": {WithFixedAddresses()}} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 2, 1)
			writer, c := ready(t, cl.addrs()), ready(t, cl.addrs(), opts...)
			ctx := testkit.Within(t, enough)
			w := watch(t, ctx, c, "", must[Cursor](t)(writer.Position(ctx)))
			must[uint64](t)(writer.Put(ctx, []byte("a"), nil))
			cursor := Cursor{}
			cursor.Advance(w.want("a"))
			promote := func(history string, ends map[string]uint64) {
				cl.mu.Lock()
				cl.nodes[0].own = cmp.Or(cl.nodes[0].own, cl.history)
				cl.history, cl.ended = history, ends
				cl.mu.Unlock()
				cl.lead(cl.nodes[1])
			}
			cl.nodes[0].alone.Store(true) // it has no more changes of its own
			promote("1-p", map[string]uint64{"h1": 1})
			must[uint64](t)(writer.Put(ctx, []byte("b"), nil))
			if ch := w.want("b"); ch.History != "1-p" {
				t.Errorf("%+v", ch)
			}
			later := watch(t, ctx, c, "", cursor) // by an application that has stored it
			if ch := later.want("b"); ch.History != "1-p" {
				t.Errorf("%+v", ch)
			}
			promote("2-q", map[string]uint64{"h1": 1, "1-p": 1}) // without b
			w.fails(ErrTrimmed)
			watch(t, ctx, c, "", cursor).want("b") // for that it is new
		})
	}
}

// Numbers without an effect above the end of a former history may have one in the next.
func TestWatchGoesBackToTheEndOfTheFormerHistory(t *testing.T) {
	c := ready(t, newCluster(t, 1, 1).addrs())
	f := &follower{watcher: &watcher{client: c, changes: make(chan Change, 1)}, name: "default", at: Position{Index: 9, History: "h1"}, last: 5}
	resp := &serverpb.GetChangesResponse{HistoryId: "1-p", MasterChangeNumber: 8, Changes: []*serverpb.ChangeRecord{{ChangeNumber: 8}}}
	if err := f.deliver(t.Context(), resp, false); !errors.Is(err, ErrTrimmed) {
		t.Errorf("in the middle of a stream: %v", err)
	}
	if err := f.deliver(t.Context(), resp, true); err != nil {
		t.Fatal(err)
	}
	if want := (Position{Index: 8, History: "1-p"}); f.at != want || f.last != 8 || len(f.changes) != 1 {
		t.Errorf("at %+v, last change %d, %d are delivered", f.at, f.last, len(f.changes))
	}
}

// A promotion that lacks what a watch has returned ends it, even at a former master that runs on
// and does not know of it. Nodes of an earlier era count if there are no others.
func TestWatchAfterAPromotion(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	w := watch(t, ctx, c, "", must[Cursor](t)(c.Position(ctx)))
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	w.want("k")
	var both []*node
	testkit.Eventually(t, "both masters have answered", func() bool {
		both = c.topology.Load().masters
		return len(both) == 2
	})
	cl.mu.Lock()
	cl.nodes[1].own = "1-p"
	cl.mu.Unlock()
	cl.lead(cl.nodes[1])
	w.fails(ErrTrimmed)

	f := &follower{watcher: &watcher{client: c}, name: "default"}
	for _, leads := range cl.nodes {
		cl.lead(leads)
		for own, want := range map[string]string{"1-p": "1-p", "2-q": cmp.Or(leads.own, "h1")} {
			f.at.History = own
			if got := f.ask(ctx, both); got != want {
				t.Errorf("of a watch in history %q: %q, want %q", own, got, want)
			}
		}
	}
}

// The watch waits for a node that is behind the one before it.
func TestWatchAhead(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	w := watch(t, ctx, c, "", Cursor{"default": {Index: 1, History: "h1"}})
	for i := range 3 {
		must[uint64](t)(c.Put(ctx, fmt.Append(nil, "k", i), nil))
	}
	w.want("k1")
}

// A watch waits for a limit of the server that is to end soon, as other calls do. One that does
// not end ends the watch.
func TestWatchWaitsForLimits(t *testing.T) {
	const pause = 50 * time.Millisecond
	for name, c := range map[string]struct {
		reject error
		fails  error
	}{
		"a limit":     {reject: limited(t, pause, kv.ReasonNotApplied)},
		"a full disk": {explained(codes.ResourceExhausted, kv.ReasonNotApplied, "the disk is full"), ErrExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 1, 1)
			client := ready(t, cl.addrs())
			var left atomic.Int64
			left.Store(2)
			cl.nodes[0].fail(func(_ context.Context, method string) error {
				if method == serverpb.DKVReplication_WatchChanges_FullMethodName && left.Add(-1) >= 0 {
					return c.reject
				}
				return nil
			}, nil)
			ctx := testkit.Within(t, enough)
			must[uint64](t)(client.Put(ctx, []byte("k"), nil))
			began := time.Now()
			w := watch(t, ctx, client, "", Cursor{"default": {}})
			if c.fails != nil {
				w.fails(c.fails)
				return
			}
			if w.want("k"); time.Since(began) < 2*pause {
				t.Errorf("it was tried again after %v", time.Since(began))
			}
		})
	}
}

func TestCursorIsStored(t *testing.T) {
	stored, err := json.Marshal(Cursor{"0": {Index: 7, History: "h"}})
	if err != nil {
		t.Fatal(err)
	}
	var back Cursor
	if err := json.Unmarshal(stored, &back); err != nil || back["0"] != (Position{Index: 7, History: "h"}) {
		t.Errorf("%s became %v, %v", stored, back, err)
	}
}

// A watch without a cursor starts with the first write after its start.
func TestWatchFromNow(t *testing.T) {
	cl := newCluster(t, 1, 2)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	must[uint64](t)(c.Put(ctx, []byte("old"), nil))
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := c.Put(ctx, fmt.Append(nil, i), nil); err != nil {
				done <- err
				return
			}
		}
	}()
	last, n := make(map[string]uint64), 0
	for ch, err := range c.Watch(ctx, nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if before, is := last[ch.VBucket]; string(ch.Mutations[0].Key) == "old" || is && ch.Index != before+1 {
			t.Fatalf("%s: change %d after %d", ch.Mutations[0].Key, ch.Index, before)
		}
		last[ch.VBucket] = ch.Index
		if n++; n == 50 {
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Without a leader there is no position; the call waits for one.
func TestPositionWaits(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs())
	cl.lead(nil)
	if _, err := c.Position(testkit.Within(t, 50*time.Millisecond)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	w := watch(t, testkit.Within(t, enough), c, "", nil)
	go func() {
		cl.lead(cl.nodes[1])
		for { // until the watch has
			if _, err := c.Put(t.Context(), []byte("k"), nil); err != nil {
				return // the test has ended
			}
		}
	}()
	w.want("k")
}

// With fixed addresses a watch learns the vBuckets from the nodes, also from one that leads none.
func TestWatchWithFixedAddresses(t *testing.T) {
	for _, vBuckets := range []int{1, 4} {
		t.Run(fmt.Sprint(vBuckets), func(t *testing.T) {
			cl := newCluster(t, 2, vBuckets)
			c := ready(t, cl.addrs())
			fixed := ready(t, cl.nodes[1].addr, WithFixedAddresses())
			ctx := testkit.Within(t, enough)
			must[uint64](t)(c.Put(ctx, []byte("old"), nil))
			cursor := must[Cursor](t)(fixed.Position(ctx))
			if len(cursor) != vBuckets {
				t.Fatalf("positions %v", cursor)
			}
			w := watch(t, ctx, fixed, "", cursor)
			must[uint64](t)(c.Put(ctx, []byte("k"), nil))
			cursor.Advance(w.want("k"))
			must[uint64](t)(c.Put(ctx, []byte("k2"), nil))
			watch(t, ctx, fixed, "", cursor).want("k2")
			w.want("k2")
			cl.mu.Lock()
			cl.history = "h2"
			close(cl.changed)
			cl.changed = make(chan struct{})
			cl.mu.Unlock()
			w.fails(ErrTrimmed)
		})
	}
}

// With fixed addresses a node of an earlier history does not end a watch while the leader, which has
// the watch's, is away.
func TestWatchWithFixedAddressesOutlivesAnEarlierHistory(t *testing.T) {
	cl := newCluster(t, 2, 1)
	lags := cl.nodes[1]
	lags.own = "h0"
	c := ready(t, cl.nodes[0].addr)
	ctx := testkit.Within(t, enough)
	cursor := must[Cursor](t)(c.Position(ctx))
	w := watch(t, ctx, ready(t, lags.addr+","+cl.nodes[0].addr, WithFixedAddresses()), "", cursor)
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	w.want("k")
	cl.nodes[0].stop()
	method := serverpb.DKVReplication_WatchChanges_FullMethodName
	asked := make(chan struct{}, 100)
	lags.fail(func(_ context.Context, m string) error {
		if m == method {
			asked <- struct{}{}
		}
		return nil
	}, nil)
	for range 3 {
		select {
		case <-asked:
		case <-ctx.Done():
			t.Fatal("the other node is not asked again: the watch has ended")
		}
	}
}
