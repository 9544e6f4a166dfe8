package replication

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestWatchChanges: a watcher gets the changes of its keys only, and those of others
// neither as changes nor as parts of them.
func TestWatchChanges(t *testing.T) {
	r := newRig(t)
	r.MustPut("a/1", "1")
	r.MustPut("b/1", "1")
	mixed, err := r.MultiPut(t.Context(), &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{mastertest.PutOf("a/2", "2"), mastertest.PutOf("b/2", "2"), mastertest.PutOf("a/3", "3")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Delete(t.Context(), &serverpb.DeleteRequest{Key: []byte("a/1")}); err != nil {
		t.Fatal(err)
	}
	last := r.MustPut("b/1", "4")
	for prefix, want := range map[string]string{
		"a/":   "map[a/2:2 a/3:3] map[a/1:2 a/2:1 a/3:1] 4",
		"b/":   "map[b/1:4 b/2:2] map[b/1:2 b/2:1] 5",
		"b/2":  "map[b/2:2] map[b/2:1] 3",
		"":     "map[a/2:2 a/3:3 b/1:4 b/2:2] map[a/1:2 a/2:1 a/3:1 b/1:2 b/2:1] 5",
		"none": "map[] map[] 0",
	} {
		w := r.watch(testkit.Within(t, patience), &serverpb.WatchChangesRequest{KeyPrefix: []byte(prefix), FromChangeNumber: 1})
		w.until(last)
		if got := fmt.Sprint(w.keys, w.counts, w.last); got != want {
			t.Errorf("%q: %s, want %s", prefix, got, want)
		}
	}
	w := r.watch(testkit.Within(t, patience), &serverpb.WatchChangesRequest{KeyPrefix: []byte("b/"), FromChangeNumber: mixed.GetIndex()})
	if w.until(last); w.counts["b/1"] != 1 || w.counts["b/2"] != 1 {
		t.Errorf("from %d: %v", mixed.GetIndex(), w.counts)
	}
}

// TestWatchFromNext: without a number, what comes next is the first that is sent.
func TestWatchFromNext(t *testing.T) {
	r := newRig(t)
	before := r.MustPut("a", "before")
	w := r.watch(testkit.Within(t, patience), &serverpb.WatchChangesRequest{KeyPrefix: []byte("a")})
	if m := w.next(); m.GetMasterChangeNumber() != before || len(m.GetChanges()) != 0 {
		t.Errorf("the first message is %v", m)
	}
	index := r.MustPut("a", "after")
	w.until(index)
	if w.counts["a"] != 1 || w.keys["a"] != "after" {
		t.Errorf("%v, %v", w.counts, w.keys)
	}
}

// TestWatchGoesOn: a watcher that comes back behind the number that it was last told
// misses nothing and has nothing twice, even where its keys were quiet for long.
func TestWatchGoesOn(t *testing.T) {
	r := newRig(t)
	ctx := testkit.Within(t, testkit.Patience)
	seen, from, want := 0, kv.Index(1), 0
	for round := range 12 {
		for i := range 40 {
			key := "other"
			if (i+round)%7 == 0 {
				key = "mine"
				want++
			}
			r.MustPut(key, fmt.Sprint(round, i))
		}
		last := r.Local.Status().Applied
		w := r.watch(ctx, &serverpb.WatchChangesRequest{KeyPrefix: []byte("mine"), FromChangeNumber: from})
		for stop := from + kv.Index(round*5); w.upTo < min(stop, last) || round == 11 && w.upTo < last; {
			m := w.next()
			if m.GetMasterChangeNumber() < w.upTo {
				t.Fatalf("told %d behind %d", m.GetMasterChangeNumber(), w.upTo)
			}
			w.upTo = m.GetMasterChangeNumber()
		}
		seen += w.counts["mine"]
		from = w.upTo + 1
	}
	if seen != want {
		t.Errorf("%d changes of %d", seen, want)
	}
}

func TestWatchOfWhatIsGone(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	r.MustBackup("b1")
	r.MustRestore("b1")
	w := r.watch(testkit.Within(t, patience), &serverpb.WatchChangesRequest{FromChangeNumber: 1})
	mastertest.WantStatus(t, w.fails(), codes.OutOfRange, "change 1 is no longer retained: the oldest is 3; start over from a snapshot")
}
