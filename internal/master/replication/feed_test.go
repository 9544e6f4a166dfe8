package replication

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/testkit"
)

// bubble is a vBucket in a synctest bubble, and a feed of it.
func bubble(t *testing.T, retention changelog.Retention) (route.VBucket, func()) {
	opts := mastertest.LocalOptions()
	opts.Retention = retention
	local, err := local.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- local.Run(ctx) }()
	return route.VBucket{Name: "default", Replica: local}, func() {
		stop()
		if err := errors.Join(<-ran, local.Close()); err != nil {
			t.Error(err)
		}
	}
}

func proposeTo(t *testing.T, v route.VBucket, c *command.Command) kv.Index {
	t.Helper()
	res, err := v.Propose(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return res.Index
}

func write(key, value string) *command.Command {
	return &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: []byte(key), Value: []byte(value)}}}
}

// TestFeedIsTrimmedAway: a receiver that is overtaken by trimming gets an error, and
// never a change after a gap.
func TestFeedIsTrimmedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, done := bubble(t, changelog.Retention{MaxAge: time.Minute})
		defer done()
		proposeTo(t, v, write("a", "1"))
		sent, resume := kv.Index(0), make(chan struct{})
		f := feed{v: v, next: 1, prompt: true}
		f.send = func(c *fsm.Changes, _ time.Duration) error {
			for i := range c.Changes {
				if c.Changes[i].Index != sent+1 {
					t.Errorf("change %d behind %d", c.Changes[i].Index, sent)
				}
				sent = c.Changes[i].Index
			}
			<-resume // the receiver takes nothing
			return nil
		}
		ended := make(chan error, 1)
		go func() { ended <- f.run(t.Context(), "") }()
		synctest.Wait()
		for range 3 {
			proposeTo(t, v, write("a", "2"))
		}
		time.Sleep(10 * time.Minute)
		index := proposeTo(t, v, write("a", "3")) // moves the log's clock
		time.Sleep(time.Minute)
		close(resume)
		if err := <-ended; kv.KindOf(err) != kv.OutOfRange || !strings.Contains(err.Error(), "change 2 is no longer retained: the oldest is 5") {
			t.Errorf("%v, at index %d", err, index)
		}
		if sent != 1 {
			t.Errorf("it was sent %d", sent)
		}
	})
}

// TestFeedDrawsLevel: a receiver that is a little ahead of the node is waited for,
// one that stays ahead is sent on.
func TestFeedDrawsLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, done := bubble(t, changelog.Retention{})
		defer done()
		proposeTo(t, v, write("a", "1"))
		sent := make(chan kv.Index, 10)
		f := feed{v: v, next: 3, send: func(c *fsm.Changes, _ time.Duration) error { sent <- c.Newest; return context.Canceled }}
		ended := make(chan error, 1)
		go func() { ended <- f.run(t.Context(), "") }()
		time.Sleep(aheadPatience / 2)
		synctest.Wait()
		select {
		case newest := <-sent:
			t.Fatalf("it is sent what there is at %d", newest)
		default:
		}
		proposeTo(t, v, write("a", "2"))
		if newest := <-sent; newest != 2 {
			t.Errorf("it begins at %d", newest)
		}
		<-ended
		begin := time.Now()
		err := (&feed{v: v, next: 4}).run(t.Context(), "")
		if kv.KindOf(err) != kv.Precondition || time.Since(begin) != aheadPatience {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// TestFeedPace: changes gather while a message is sent, an idle feed is heard of
// twice a second, and one that has to wait for a change wakes up for it at once.
func TestFeedPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, done := bubble(t, changelog.Retention{})
		defer done()
		type message struct {
			at      time.Time
			changes int
		}
		var sent []message
		f := feed{v: v, next: 1, prompt: true}
		f.send = func(c *fsm.Changes, _ time.Duration) error {
			sent = append(sent, message{time.Now(), len(c.Changes)})
			return nil
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- f.run(ctx, "") }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(sent); n < 20 || n > 30 {
			t.Errorf("%d messages in 10 idle seconds", n)
		}
		for i := 1; i < len(sent); i++ {
			if gap := sent[i].at.Sub(sent[i-1].at); gap > 500*time.Millisecond {
				t.Errorf("it was silent for %v", gap)
			}
		}
		time.Sleep(streamPace) // the last heartbeat may just have been
		begin, before := time.Now(), len(sent)
		proposeTo(t, v, write("a", "1"))
		synctest.Wait()
		if n := len(sent); n != before+1 || sent[before].changes != 1 || time.Since(begin) > streamPace {
			t.Errorf("%d messages within %v of a change", n-before, time.Since(begin))
		}
		before = len(sent)
		for range 1000 { // 10 000 a second
			proposeTo(t, v, write("a", "1"))
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(streamPace)
		synctest.Wait()
		changes := 0
		for _, m := range sent[before:] {
			changes += m.changes
		}
		paced := int(100 * time.Millisecond / streamPace)
		if n := len(sent) - before; changes != 1000 || n > paced+10 || n < paced/2 {
			t.Errorf("%d changes in %d messages", changes, n)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// busy is a vBucket in which a key changes without end.
type busy struct {
	replica.Replica
	reads int
	// stop ends what reads it, waits is called when it waits for more.
	stop, waits func()
}

func (b *busy) Age() time.Duration { return 0 }

func (b *busy) AwaitApplied(ctx context.Context, index kv.Index) error {
	if index > 1 {
		b.waits()
	}
	return ctx.Err()
}

func (b *busy) Changes(_ context.Context, from kv.Index, _, _ int) (fsm.Changes, error) {
	if b.reads++; b.reads > 10_000 {
		b.stop() // time does not even pass
	}
	out := fsm.Changes{Newest: from, Changes: []kv.Change{{Index: from, Mutations: write("other", "1").Mutations}}}
	out.History = "h"
	return out, nil
}

func (b *busy) Status() replica.Status {
	return replica.Status{Identity: fsm.Identity{History: "h"}}
}

// TestFilteredFeedIsPaced: also one who is sent nothing looks at the log no more often
// than the pace allows, and is told how far it is.
func TestFilteredFeedIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		b, sent := &busy{stop: stop}, 0
		var all transit
		f := feed{v: route.VBucket{Replica: b}, next: 1, keep: func(*kv.Mutation) bool { return false }, share: share{of: &all}}
		b.waits = func() {
			if n := all.taken.Load(); n != 0 {
				t.Errorf("%d bytes are taken where nothing is sent", n)
				stop()
			}
		}
		f.send = func(c *fsm.Changes, _ time.Duration) error {
			sent++
			return nil
		}
		if err := f.run(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if paced := int(time.Second / streamPace); b.reads > paced+5 || b.reads < paced/2 {
			t.Errorf("%d looks in a second", b.reads)
		}
		if sent < 2 || sent > 4 {
			t.Errorf("%d messages in a second", sent)
		}
	})
}

// TestManyReadersReadAsMuchAsFew: each reads all changes, whatever it waits for.
func TestManyReadersReadAsMuchAsFew(t *testing.T) {
	for n, pace := range map[int]time.Duration{1: streamPace, 10: streamPace, 100: 10 * streamPace} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			b := &busy{stop: stop, waits: func() {}}
			among := newReaders(2)
			for range n - 1 {
				defer among.enter(kv.Client{})()
			}
			f := feed{v: route.VBucket{Replica: b}, next: 1, keep: func(*kv.Mutation) bool { return false }, among: among}
			f.send = func(*fsm.Changes, time.Duration) error { return nil }
			if err := f.run(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if paced := int(time.Second / pace); b.reads > paced+5 || b.reads < paced/2 {
				t.Errorf("%d streams: one looks %d times in a second", n, b.reads)
			}
		})
	}
}

// confirmed is a copy that is told to have been the newest, at a time when what was
// read of it is no longer all.
type confirmed struct {
	replica.Replica
	age atomic.Int64
}

func (c *confirmed) Age() time.Duration { return time.Duration(c.age.Load()) }

func (c *confirmed) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	out, err := c.Replica.Changes(ctx, from, limit, maxBytes)
	c.age.Store(0)
	return out, err
}

// TestAgeIsOfWhatWasRead: the age in an answer is true of the changes in it.
func TestAgeIsOfWhatWasRead(t *testing.T) {
	const age = 5 * time.Second
	r := newRig(t)
	copied := &confirmed{Replica: r.Local}
	r.Keyspace.All()[0].Replica = copied
	r.MustPut("a", "1")
	copied.age.Store(int64(age))
	resp, err := r.changes(1, 0)
	if err != nil || resp.GetAgeMillis() != uint64(age.Milliseconds()) {
		t.Errorf("an answer says %d ms, %v", resp.GetAgeMillis(), err)
	}
	for name, open := range map[string]func() *received{
		"stream": func() *received { return r.stream(testkit.Within(t, patience), &serverpb.StreamChangesRequest{}) },
		"watch": func() *received {
			return r.watch(testkit.Within(t, patience), &serverpb.WatchChangesRequest{FromChangeNumber: 1})
		},
	} {
		copied.age.Store(int64(age))
		if m := open().next(); m.GetAgeMillis() != uint64(age.Milliseconds()) {
			t.Errorf("a %s says %d ms", name, m.GetAgeMillis())
		}
	}
}

// successor is a replica of a later history than its log's.
type successor struct {
	replica.Replica
	history string
	former  []fsm.Former
}

func (s *successor) Status() replica.Status {
	st := s.Replica.Status()
	st.Identity.History = s.history
	return st
}

func (s *successor) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	c, err := s.Replica.Changes(ctx, from, limit, maxBytes)
	c.History, c.Former = s.history, s.former
	return c, err
}

// TestWatchOfAFormerHistory goes on in the present one if promotions have led to that, and it has
// what the watcher has.
func TestWatchOfAFormerHistory(t *testing.T) {
	r := newRig(t)
	for i := range 9 {
		r.MustPut("a", strconv.Itoa(i+1))
	}
	s := &successor{Replica: r.Local, history: "1-b"}
	r.Keyspace.All()[0].Replica = s
	promoted := []fsm.Former{{History: "a", End: 5}}
	for _, c := range []struct {
		former  []fsm.Former
		history string
		from    kv.Index
		last    *uint64
		want    kv.Index // the first change that comes; 0 for none
	}{
		{promoted, "a", 6, proto.Uint64(5), 6},
		{promoted, "a", 3, proto.Uint64(2), 3},
		{promoted, "a", 1, proto.Uint64(0), 1},
		{promoted, "a", 8, proto.Uint64(5), 6}, // it knows of numbers without an effect there
		{promoted, "a", 8, proto.Uint64(3), 6},
		{promoted, "a", 7, proto.Uint64(6), 0}, // 6 was another change
		{promoted, "a", 6, nil, 0},             // it takes no other history
		{promoted, "a", 0, proto.Uint64(0), 0}, // and begins nowhere
		{promoted, "b", 6, proto.Uint64(5), 0}, // it is not known, or from before the lineage
		{[]fsm.Former{{History: "a", End: 5}, {History: "1-c", End: 7}}, "a", 6, proto.Uint64(5), 6},
		{[]fsm.Former{{History: "a", End: 5}, {History: "1-c", End: 3}}, "a", 6, proto.Uint64(4), 0}, // the second one lost the end of the first
		{[]fsm.Former{{History: "a", End: 5}, {History: "1-c", End: 3}}, "1-c", 6, proto.Uint64(3), 4},
		{[]fsm.Former{{History: "a"}}, "a", 2, proto.Uint64(1), 0}, // a restore
		{[]fsm.Former{{History: "a", End: 5}, {History: "1-c"}}, "a", 2, proto.Uint64(1), 0},
	} {
		s.former = c.former
		w, err := r.Replication.WatchChanges(testkit.Within(t, patience), &serverpb.WatchChangesRequest{FromChangeNumber: c.from, HistoryId: c.history, LastChange: c.last})
		if err != nil {
			t.Fatal(err)
		}
		switch m, err := w.Recv(); {
		case c.want == 0 && status.Code(err) != codes.FailedPrecondition:
			t.Errorf("%+v: %v, %v", c, m, err)
		case c.want != 0 && (err != nil || m.GetHistoryId() != "1-b" || len(m.GetChanges()) == 0 || m.GetChanges()[0].GetChangeNumber() != c.want):
			t.Errorf("%+v: %v, %v", c, m, err)
		}
	}
}

// adopting is a copy that has stored a later history, and shows the one before still.
type adopting struct{ replica.Replica }

func (adopting) Status() replica.Status {
	return replica.Status{Identity: fsm.Identity{History: "1-b"}, Applied: 6}
}

func (adopting) Changes(context.Context, kv.Index, int, int) (fsm.Changes, error) {
	stored := fsm.Changes{Identity: fsm.Identity{History: "2-c"}, Former: []fsm.Former{{History: "a", End: 3}, {History: "1-b", End: 5}}}
	return stored, kv.Errorf(kv.OutOfRange, "a promotion has ended its history before it")
}

// A number that the end of a history has made one of no change was not trimmed, which would send a
// receiver to get all again.
func TestFeedWhileItsHistoryEnds(t *testing.T) {
	v := route.VBucket{Replica: adopting{}}
	f := feed{v: v, next: 7, history: "1-b"}
	if _, err := f.read(t.Context()); kv.KindOf(err) != kv.Precondition {
		t.Errorf("it ends with %v", err)
	}
	f = feed{v: v, next: 5, last: proto.Uint64(3), history: "1-b"}
	if err := f.succeed(t.Context(), "a"); err != nil || f.history != "2-c" || f.next != 4 {
		t.Errorf("goes on at %d of history %s, %v", f.next, f.history, err)
	}
}
