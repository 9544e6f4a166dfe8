package chunks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/fsm/fsmtest"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/storage"
)

// loadInto fills an empty engine with payloads.
func loadInto(e storage.Engine, payloads ...[]byte) error {
	l := NewLoader(e)
	for i, p := range payloads {
		if err := l.Add(p); err != nil {
			return fmt.Errorf("payload %d: %w", i, err)
		}
	}
	return l.Finish()
}

// hasIdentity reports whether an engine has an identity record, without which no machine
// opens it.
func hasIdentity(t *testing.T, e storage.Engine) bool {
	t.Helper()
	_, found, err := layout.ReadIdentity(e)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// sizes notes the sizes of an engine's batches.
type sizes struct {
	storage.Engine
	batches []int
}

func (s *sizes) Write(b *storage.Batch, sync bool) error {
	s.batches = append(s.batches, b.Size())
	return s.Engine.Write(b, sync)
}

// What one write takes does not depend on how large the payloads are.
func TestLoaderWritesBoundedBatches(t *testing.T) {
	whole, _, err := Append(nil, filled(t), nil, 1<<30)
	if err != nil || len(whole) < 4*FillStep {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	e := &sizes{Engine: fsmtest.OpenMemory(t)}
	l := NewLoader(e)
	if err := l.Add(whole); err != nil {
		t.Fatal(err)
	}
	largest := FillStep/4 + 100 // a value of filled
	for _, n := range e.batches {
		if n > FillStep+largest {
			t.Errorf("a batch of %d bytes", n)
		}
	}
	if len(e.batches) < len(whole)/(FillStep+largest) {
		t.Errorf("only %d batches", len(e.batches))
	}
}

// A load that lacks a part, or has one twice or in another place, either fails or
// is not taken for a state before it is finished.
func TestLoaderNeedsAll(t *testing.T) {
	payloads, _ := chunksOf(t, varied(t), func() int { return 0 }) // one record each
	for name, key := range map[string]string{"no identity": "\x03\x08identity", "no state": "\x03\x05state"} {
		l := NewLoader(fsmtest.OpenMemory(t))
		for _, p := range payloads {
			if !bytes.HasPrefix(p, []byte(key)) {
				if err := l.Add(p); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.Finish(); !errors.Is(err, ErrBadSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unfinished := fsmtest.OpenMemory(t)
	l := NewLoader(unfinished)
	for _, p := range payloads {
		if err := l.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if hasIdentity(t, unfinished) {
		t.Error("a load that is not finished is taken for a state")
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	if !hasIdentity(t, unfinished) {
		t.Error("a load that is finished is no state")
	}
}

// An engine that has a bulk load is filled by it, but for what makes it a state.
func TestLoaderUsesBulkLoad(t *testing.T) {
	x := filled(t)
	payloads, _ := chunksOf(t, x, func() int { return 100_000 })
	e := fsmtest.OpenBulky(t)
	l := NewLoader(e)
	for _, p := range payloads {
		if err := l.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	if e.Adds < len(payloads)/2 || e.Finished != 1 || e.Writes != 1 {
		t.Errorf("%d batches of %d payloads were loaded in %d loads, %d written", e.Adds, len(payloads), e.Finished, e.Writes)
	}
	if !fsmtest.Same(fsmtest.Replicated(t, e), fsmtest.Replicated(t, x)) {
		t.Error("the copy differs")
	}
}

// What the engine says of the order is the snapshot's fault, and all else its own.
func TestLoaderReportsBulkErrors(t *testing.T) {
	payloads, _ := chunksOf(t, varied(t), func() int { return 500 })
	load := func(e storage.Engine, payloads [][]byte) error {
		l := NewLoader(e)
		for _, p := range payloads {
			if err := l.Add(p); err != nil {
				return err
			}
		}
		return l.Finish()
	}
	for name, e := range map[string]*fsmtest.Bulky{"begin": {FailBegin: 1}, "add": {FailAdd: 3}, "finish": {FailFinish: 1}} {
		e.Engine = fsmtest.OpenMemory(t)
		if err := load(e, payloads); !errors.Is(err, fsmtest.ErrInjected) || errors.Is(err, ErrBadSnapshot) || e.Writes > 0 {
			t.Errorf("%s: %v, %d writes", name, err, e.Writes)
		}
	}
	twice := slices.Insert(slices.Clone(payloads), 1, payloads[0])
	swapped := slices.Clone(payloads)
	slices.Reverse(swapped)
	for name, p := range map[string][][]byte{"twice": twice, "swapped": swapped} {
		e := fsmtest.OpenBulky(t)
		if err := load(e, p); !errors.Is(err, ErrBadSnapshot) || e.Writes > 0 {
			t.Errorf("%s: %v, %d writes", name, err, e.Writes)
		}
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
	e := fsmtest.OpenMemory(t)
	if err := loadInto(e, payloads...); !errors.Is(err, ErrBadSnapshot) {
		t.Errorf("%s: %v", what, err)
	}
	if hasIdentity(t, e) {
		t.Errorf("%s: the remains pass for a state", what)
	}
}

func TestSnapshotOfNonsense(t *testing.T) {
	id := record(storage.Meta, "identity", history.Identity{Cluster: "c", History: "h"}.Append(nil))
	st := record(storage.Meta, "state", (&layout.State{Applied: 9}).Append(nil))
	if err := loadInto(fsmtest.OpenMemory(t), slices.Concat(id, st)); err != nil {
		t.Fatalf("the test's own snapshot is bad: %v", err)
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
	payloads, _ := chunksOf(t, filled(t), func() int { return FillStep })
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

// A snapshot may hold records of a newer release.
func TestSnapshotOfNewerState(t *testing.T) {
	id := record(storage.Meta, "identity", history.Identity{Cluster: "c", History: "h"}.Append(nil))
	st := record(storage.Meta, "state", []byte("\x04what a newer release writes"))
	err := loadInto(fsmtest.OpenMemory(t), append(id, st...))
	if !errors.Is(err, storage.ErrNewer) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, ErrBadSnapshot) {
		t.Errorf("error %v", err)
	}
	if err == nil || !strings.Contains(err.Error(), "the state record has format 4") {
		t.Errorf("error %v does not say which format", err)
	}
}

// FuzzLoader feeds payloads that are of no snapshot, or damaged: checksums are the sender's
// and the receiver's affair, and a sender may be wrong.
func FuzzLoader(f *testing.F) {
	payload, _, err := Append(nil, stored(f, 2, fsmtest.Put("a", "1"), fsmtest.PutUntil("b", "2", 9)), nil, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add([]byte(nil))
	f.Add([]byte("\x00\x01a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := fsmtest.OpenMemory(t)
		err := loadInto(e, raw)
		if err != nil && !errors.Is(err, ErrBadSnapshot) && !errors.Is(err, storage.ErrNewer) {
			t.Fatalf("error is neither ErrBadSnapshot nor ErrNewer: %v", err)
		}
		if err != nil && hasIdentity(t, e) {
			t.Fatal("the remains of a bad snapshot pass for a state")
		}
	})
}
