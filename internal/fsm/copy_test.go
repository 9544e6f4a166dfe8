package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// filled is a machine with some of everything, whose snapshot has several
// chunks.
func filled(t failer) *fixture {
	t.Helper()
	x := newFixture(t)
	big := string(bytes.Repeat([]byte("0123456789abcdef"), copyChunk/64))
	for i := range 12 {
		x.apply(
			write(put(fmt.Sprintf("key%02d", i), fmt.Sprint(i)+big)),
			as(write(putUntil(fmt.Sprintf("ttl%02d", i), big, i+1)), 7, uint64(i)+1, 0),
		)
	}
	x.apply(write(put("empty", "")))
	return x
}

func TestCopy(t *testing.T) {
	for name, x := range map[string]*fixture{"empty": newFixture(t), "filled": filled(t)} {
		t.Run(name, func(t *testing.T) {
			copied := newMachine(t, copiedEngine(t, x.m))
			if !sameSpaces(replicated(t, copied.engine), replicated(t, x.engine)) {
				t.Error("the copy differs")
			}
			if hash(t, copied) != hash(t, x.m) || copied.Identity() != x.m.Identity() || copied.Applied() != x.m.Applied() {
				t.Error("the copy has another hash, identity or index")
			}
			checkInvariants(t, copied)
			// Its changes begin behind the snapshot.
			next := x.m.Applied() + 1
			if copied.ChangelogFloor() != next {
				t.Errorf("floor %d, want %d", copied.ChangelogFloor(), next)
			}
			if _, err := copied.Changes(next-1, 0, 1<<20); kv.KindOf(err) != kv.OutOfRange {
				t.Errorf("Changes below the floor: %v", err)
			}
			if ch, err := copied.Changes(next, 0, 1<<20); err != nil || len(ch.Changes) != 0 || ch.Newest != x.m.Applied() {
				t.Errorf("Changes at the floor: %+v, %v", ch, err)
			}
			again := newMachine(t, copiedEngine(t, copied))
			if !sameSpaces(replicated(t, again.engine), replicated(t, copied.engine)) {
				t.Error("the copy's copy differs")
			}
		})
	}
}

// A copy shows the view's state, whatever is applied meanwhile.
func TestCopyIsOfTheView(t *testing.T) {
	x := filled(t)
	want := replicated(t, x.engine)
	index := x.m.Applied()
	v := viewOf(t, x.m)
	x.apply(write(put("later", "1"), del("key00")), pause(true))
	e := openMemory(t)
	if err := v.CopyTo(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if v.Index() != index {
		t.Fatalf("index %d, want %d", v.Index(), index)
	}
	if !sameSpaces(replicated(t, e), want) {
		t.Fatal("the copy shows what came later")
	}
}

func record(space storage.Space, key string, value []byte) []byte {
	p := []byte{byte(space)}
	p = append(binary.AppendUvarint(p, uint64(len(key))), key...)
	return append(binary.AppendUvarint(p, uint64(len(value))), value...)
}

// checkRefused checks that payloads make no snapshot, and that what was loaded of them is
// not taken for a state.
func checkRefused(t *testing.T, what string, payloads ...[]byte) {
	t.Helper()
	e := openMemory(t)
	if err := loadInto(e, payloads...); !errors.Is(err, ErrBadSnapshot) {
		t.Errorf("%s: %v", what, err)
	}
	if _, err := New(e); !errors.Is(err, storage.ErrCorrupt) && len(dump(t, e, storage.Data)) > 0 {
		t.Errorf("%s: New on the remains: %v", what, err)
	}
}

func TestSnapshotOfNonsense(t *testing.T) {
	id := record(storage.Meta, "identity", Identity{Cluster: "c", History: "h"}.Append(nil))
	st := record(storage.Meta, "state", (&layout.State{Applied: 9}).Append(nil))
	if m := load(t, [][]byte{slices.Concat(id, st)}); m.Applied() != 9 {
		t.Fatal("the test's own snapshot is bad")
	}
	for name, payload := range map[string][]byte{
		"no state":        id,
		"no identity":     st,
		"bad state":       slices.Concat(id, record(storage.Meta, "state", []byte{1})),
		"bad identity":    slices.Concat(record(storage.Meta, "identity", []byte("x")), st),
		"changelog":       slices.Concat(id, st, record(storage.Changelog, "x", nil)),
		"unknown space":   slices.Concat(id, st, record(storage.Spaces, "x", nil)),
		"key too long":    slices.Concat(id, st, []byte{0, 200, 1, 'x'}),
		"no value":        slices.Concat(id, st, []byte{0, 1, 'x'}),
		"value too long":  slices.Concat(id, st, []byte{0, 1, 'x', 9, 'y'}),
		"endless varint":  slices.Concat(id, st, bytes.Repeat([]byte{0xff}, 12)),
		"space by itself": slices.Concat(id, st, []byte{0}),
	} {
		checkRefused(t, name, payload)
	}
	checkRefused(t, "no payload")
}

// A load whose last payload is cut short anywhere is no state.
func TestSnapshotCutShort(t *testing.T) {
	x := filled(t)
	payloads, _ := chunksOf(t, viewOf(t, x.m), func() int { return copyChunk })
	if len(payloads) < 4 {
		t.Fatalf("only %d chunks; the test needs some more", len(payloads))
	}
	for i := range payloads {
		checkRefused(t, fmt.Sprintf("cut behind chunk %d", i), payloads[:i]...)
		for _, n := range []int{1, 2, len(payloads[i]) / 2, len(payloads[i]) - 1} {
			cut := append(slices.Clone(payloads[:i]), payloads[i][:n])
			checkRefused(t, fmt.Sprintf("cut behind %d bytes of chunk %d", n, i), cut...)
		}
	}
}

// failingView is an engine whose views fail from the given iteration on.
type failingView struct {
	storage.Engine
	fail int
}

func (f *failingView) NewView() (storage.View, error) {
	v, err := f.Engine.NewView()
	return failingReads{v, f}, err
}

type failingReads struct {
	storage.View
	f *failingView
}

func (v failingReads) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	it := v.View.Iterate(s, r)
	if fails(&v.f.fail) {
		return failedIterator{it}
	}
	return it
}

type failedIterator struct{ storage.Iterator }

func (failedIterator) Next() bool { return false }
func (failedIterator) Err() error { return errInjected }

func TestCopyReportsErrors(t *testing.T) {
	x := filled(t)
	v := viewOf(t, x.m)
	for n := 1; ; n++ {
		f := &faulty{Engine: openMemory(t), failWrite: n}
		err := v.CopyTo(t.Context(), f)
		if err == nil {
			if n < 5 {
				t.Fatalf("only %d writes", n)
			}
			break
		}
		if !errors.Is(err, errInjected) || errors.Is(err, ErrBadSnapshot) {
			t.Fatalf("write %d failed: %v", n, err)
		}
	}
	if err := v.CopyTo(t.Context(), &faulty{Engine: openMemory(t), failSync: 1}); !errors.Is(err, errInjected) {
		t.Errorf("sync failed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.CopyTo(ctx, openMemory(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	source := &failingView{Engine: copiedEngine(t, x.m)}
	unreadable := viewOf(t, newMachine(t, source))
	for n := 1; ; n++ {
		source.fail = n
		e := openMemory(t)
		err := unreadable.CopyTo(t.Context(), e)
		if err == nil {
			if n < 4 {
				t.Fatalf("only %d iterations", n)
			}
			break
		}
		if !errors.Is(err, errInjected) || errors.Is(err, ErrBadSnapshot) {
			t.Fatalf("iteration %d failed: %v", n, err)
		}
		if _, err := New(e); !errors.Is(err, storage.ErrCorrupt) && len(dump(t, e, storage.Data)) > 0 {
			t.Fatalf("iteration %d failed, and the remains pass for a state: %v", n, err)
		}
	}
}
