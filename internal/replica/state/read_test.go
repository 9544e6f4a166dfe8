package state_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestReads(t *testing.T) {
	r := replicatest.RunNode(t)
	ctx := context.Background()
	r.MustPut("a", "1")
	r.MustPut("b", "")
	for _, level := range []kv.ReadLevel{kv.Sequential, kv.Linearizable} {
		opts := kv.ReadOptions{Level: level}
		p, found, info, err := r.Get(ctx, []byte("a"), opts)
		if err != nil || !found || string(p.Value) != "1" || string(p.Key) != "a" || info != (kv.ReadInfo{Index: 2}) {
			t.Errorf("get: %+v, %v, %+v, %v", p, found, info, err)
		}
		if p, found, _, err := r.Get(ctx, []byte("b"), opts); err != nil || !found || len(p.Value) != 0 {
			t.Errorf("get of an empty value: %+v, %v, %v", p, found, err)
		}
		if _, found, info, err := r.Get(ctx, []byte("c"), opts); err != nil || found || info.Index != 2 {
			t.Errorf("get of nothing: %v, %+v, %v", found, info, err)
		}
		pairs, info, err := r.MultiGet(ctx, [][]byte{[]byte("b"), []byte("x"), []byte("a"), []byte("b")}, opts)
		if err != nil || info.Index != 2 || len(pairs) != 3 ||
			string(pairs[0].Key) != "b" || string(pairs[1].Value) != "1" || string(pairs[2].Key) != "b" {
			t.Errorf("multi-get: %+v, %+v, %v", pairs, info, err)
		}
	}
	if pairs, _, err := r.MultiGet(ctx, nil, kv.ReadOptions{}); err != nil || len(pairs) != 0 {
		t.Errorf("multi-get of nothing: %v, %v", pairs, err)
	}
}

func TestViewIsOneState(t *testing.T) {
	r := replicatest.RunNode(t)
	r.MustPut("a", "1")
	v, info, err := r.View(context.Background(), kv.ReadOptions{})
	if err != nil || info.Index != 1 {
		t.Fatalf("%+v, %v", info, err)
	}
	defer v.Close()
	before, err := v.Hash(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r.MustPut("b", "2")
	if got := replicatest.Keys(t, v); !slices.Equal(got, []string{"a"}) {
		t.Errorf("keys %q", got)
	}
	pairs, err := v.MultiGet([][]byte{[]byte("b"), []byte("a"), []byte("a")})
	if err != nil || len(pairs) != 2 || string(pairs[0].Key) != "a" {
		t.Errorf("multi-get: %+v, %v", pairs, err)
	}
	after, err := v.Hash(context.Background())
	if err != nil || after != before || before.Index != 1 || before.Keys != 1 {
		t.Errorf("hash %+v, then %+v, %v", before, after, err)
	}
	if v.Identity() != r.Status().Identity {
		t.Errorf("identity %+v", v.Identity())
	}
}

func TestReadWaitsForIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		r.MustPut("k", "1")
		type answer struct {
			pair kv.Pair
			info kv.ReadInfo
			err  error
		}
		got := make(chan answer, 1)
		go func() {
			var a answer
			a.pair, _, a.info, a.err = r.Get(t.Context(), []byte("k"), kv.ReadOptions{MinIndex: 3})
			got <- a
		}()
		synctest.Wait()
		r.MustPut("k", "2")
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("it did not wait: %+v", <-got)
		}
		r.MustPut("k", "3")
		a := <-got
		if a.err != nil || string(a.pair.Value) != "3" || a.info.Index != 3 {
			t.Errorf("%+v", a)
		}
		// What is applied already is answered at once, whatever the deadline.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, _, err := r.Get(ended, []byte("k"), kv.ReadOptions{MinIndex: 3}); err != nil {
			t.Error(err)
		}
	})
}

// A caller without a deadline does not keep its place for ever.
func TestReadWithoutDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		begin := time.Now()
		_, _, _, err := r.Get(t.Context(), []byte("k"), kv.ReadOptions{MinIndex: 9})
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		if waited := time.Since(begin); waited != state.MaxIndexWait {
			t.Errorf("it waited for %v", waited)
		}
	})
}

// An index that cannot come soon is not waited for.
func TestReadOfADistantIndexIsRefused(t *testing.T) {
	r := replicatest.RunNode(t)
	r.MustPut("k", "1")
	for _, index := range []kv.Index{2 + state.MaxIndexAhead, era.Gap + 2 + state.MaxIndexAhead, math.MaxUint64} {
		_, _, _, err := r.Get(t.Context(), []byte("k"), kv.ReadOptions{MinIndex: index})
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		if !strings.Contains(err.Error(), "is far ahead of what is applied here, 1;") {
			t.Errorf("error %v", err)
		}
	}
}

// place counts the requests that have given up their places.
type place struct {
	kv.Place
	parked, most int
	err          error
}

func (p *place) Park() error {
	if p.err != nil {
		return p.err
	}
	p.parked++
	p.most = max(p.most, p.parked)
	return nil
}

func (p *place) Unpark() { p.parked-- }

// A read that waits has no place in flight, and takes it again; where too many wait,
// it is told so.
func TestReadThatWaitsLeavesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		r.MustPut("k", "1")
		p := &place{Place: kv.PlaceOf(t.Context())}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), kv.PlaceKey{}, p), time.Second)
		defer cancel()
		if _, _, _, err := r.Get(ctx, []byte("k"), kv.ReadOptions{MinIndex: 1}); err != nil || p.most != 0 {
			t.Errorf("one that need not wait: %v, it gave up %d places", err, p.most)
		}
		_, _, _, err := r.Get(ctx, []byte("k"), kv.ReadOptions{MinIndex: 2})
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		if p.most != 1 || p.parked != 0 {
			t.Errorf("it gave up %d places, and %d at the end", p.most, p.parked)
		}
		p.err = kv.Errorf(kv.Exhausted, "too many")
		_, _, _, err = r.Get(ctx, []byte("k"), kv.ReadOptions{MinIndex: 2})
		replicatest.WantError(t, err, kv.Exhausted, kv.NotApplied)
	})
}

func TestReadDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		r.MustPut("k", "1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		_, _, _, err := r.Get(ctx, []byte("k"), kv.ReadOptions{MinIndex: 2})
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		const want = "index 2 is not applied here yet, only 1: context deadline exceeded"
		if err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it waited for %v", took)
		}
		_, _, err = r.MultiGet(ctx, nil, kv.ReadOptions{MinIndex: 2})
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		_, _, err = r.View(ctx, kv.ReadOptions{MinIndex: 2})
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	})
}

func TestReadError(t *testing.T) {
	if replica.ReadError(nil) != nil {
		t.Error("no error became one")
	}
	known := kv.Errorf(kv.OutOfRange, "x")
	if got := replica.ReadError(known); got != error(known) {
		t.Errorf("%v was changed to %v", known, got)
	}
	got := replica.ReadError(storage.ErrCorrupt)
	if kv.KindOf(got) != kv.Corrupt || !errors.Is(got, storage.ErrCorrupt) {
		t.Errorf("%v has kind %d", got, kv.KindOf(got))
	}
}
