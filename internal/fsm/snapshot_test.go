package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// filled is a machine with some of everything, whose snapshot has several
// chunks.
func filled(t failer) *fixture {
	t.Helper()
	x := newFixture(t)
	big := string(bytes.Repeat([]byte("0123456789abcdef"), snapshotChunk/64))
	for i := range 12 {
		x.apply(
			write(put(fmt.Sprintf("key%02d", i), fmt.Sprint(i)+big)),
			as(write(putUntil(fmt.Sprintf("ttl%02d", i), big, i+1)), 7, uint64(i)+1, 0),
		)
	}
	x.apply(write(put("empty", "")))
	return x
}

func TestSnapshotRoundTrip(t *testing.T) {
	for name, x := range map[string]*fixture{"empty": newFixture(t), "filled": filled(t)} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			writeSnapshot(t, x.m, &b)
			copied := newMachine(t, readSnapshot(t, b.Bytes()))
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
			var again bytes.Buffer
			writeSnapshot(t, copied, &again)
			if !bytes.Equal(again.Bytes(), b.Bytes()) {
				t.Error("the copy's snapshot differs")
			}
		})
	}
}

// A snapshot shows the view's state, whatever is applied meanwhile.
func TestSnapshotIsOfTheView(t *testing.T) {
	x := filled(t)
	want := replicated(t, x.engine)
	index := x.m.Applied()
	v, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	x.apply(write(put("later", "1"), del("key00")), pause(true))
	var b bytes.Buffer
	if err := v.WriteSnapshot(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	if v.Index() != index {
		t.Fatalf("index %d, want %d", v.Index(), index)
	}
	if !sameSpaces(replicated(t, readSnapshot(t, b.Bytes())), want) {
		t.Fatal("the snapshot shows what came later")
	}
}

// chunkEnds returns the offsets behind the magic and behind each chunk.
func chunkEnds(t *testing.T, raw []byte) []int {
	t.Helper()
	ends := []int{len(snapshotMagic)}
	for at := len(snapshotMagic); at < len(raw); {
		at += 8 + int(binary.LittleEndian.Uint32(raw[at:]))
		ends = append(ends, at)
	}
	if ends[len(ends)-1] != len(raw) || len(ends) < 6 {
		t.Fatalf("chunks end at %v of %d bytes; the test wants some more", ends, len(raw))
	}
	return ends
}

func checkRefused(t *testing.T, what string, raw []byte) {
	t.Helper()
	e := openMemory(t)
	err := ReadSnapshot(context.Background(), bytes.NewReader(raw), e)
	// A digit that was flipped may name a newer format.
	if !errors.Is(err, ErrBadSnapshot) && !(errors.Is(err, storage.ErrNewer) && raw[7] != snapshotMagic[7]) {
		t.Fatalf("%s: %v", what, err)
	}
	// What there is of it must not pass for a state.
	if _, err := New(e); !errors.Is(err, storage.ErrCorrupt) && len(dump(t, e, storage.Data)) > 0 {
		t.Fatalf("%s: New on the remains: %v", what, err)
	}
}

func TestSnapshotCutShort(t *testing.T) {
	x := filled(t)
	var b bytes.Buffer
	writeSnapshot(t, x.m, &b)
	raw := b.Bytes()
	ends := chunkEnds(t, raw)
	for _, end := range ends {
		for _, n := range []int{end - 1, end, end + 1, end + 4, end + 8, end + 9} {
			if n < len(raw) {
				checkRefused(t, fmt.Sprintf("cut to %d bytes", n), raw[:n])
			}
		}
	}
	for n := range 20 {
		checkRefused(t, fmt.Sprintf("cut to %d bytes", n), raw[:n])
	}
	for i := range len(ends) - 2 { // without one chunk
		missing := slices.Concat(raw[:ends[i]], raw[ends[i+1]:])
		checkRefused(t, fmt.Sprintf("without chunk %d", i), missing)
	}
}

func TestSnapshotFlippedBit(t *testing.T) {
	x := filled(t)
	var b bytes.Buffer
	writeSnapshot(t, x.m, &b)
	raw := b.Bytes()
	choose := newSeeded(seed(t))
	positions := []int{}
	for i := range len(snapshotMagic) {
		positions = append(positions, i)
	}
	ends := chunkEnds(t, raw)
	for _, end := range ends[:len(ends)-1] {
		for i := range 12 { // the header and the start of the payload
			if end+i < len(raw) {
				positions = append(positions, end+i)
			}
		}
	}
	for range 50 {
		positions = append(positions, choose.intn(len(raw)))
	}
	for _, at := range positions {
		bit := byte(1) << choose.intn(8)
		raw[at] ^= bit
		checkRefused(t, fmt.Sprintf("bit %#x of byte %d flipped", bit, at), raw)
		raw[at] ^= bit
	}
}

// snapshotOf makes a stream with correct checksums around any payloads.
func snapshotOf(payloads ...[]byte) []byte {
	var b bytes.Buffer
	b.Write(snapshotMagic[:])
	w := chunkWriter{w: &b}
	for _, p := range payloads {
		w.buf = append(w.buf[:0], p...)
		if err := w.flush(); err != nil {
			panic(err)
		}
	}
	if err := w.finish(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func record(space storage.Space, key string, value []byte) []byte {
	p := []byte{byte(space)}
	p = append(binary.AppendUvarint(p, uint64(len(key))), key...)
	return append(binary.AppendUvarint(p, uint64(len(value))), value...)
}

func TestSnapshotOfNonsense(t *testing.T) {
	id := record(storage.Meta, "identity", Identity{Cluster: "c", History: "h"}.append(nil))
	st := record(storage.Meta, "state", (&state{applied: 9}).append(nil))
	good := snapshotOf(slices.Concat(id, st))
	if e := readSnapshot(t, good); newMachine(t, e).Applied() != 9 {
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
		e := openMemory(t)
		err := ReadSnapshot(context.Background(), bytes.NewReader(snapshotOf(payload)), e)
		if !errors.Is(err, ErrBadSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkRefused(t, "nothing", nil)
	checkRefused(t, "no chunks", snapshotOf())
	long := append(slices.Clone(snapshotMagic[:]), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
	checkRefused(t, "a chunk beyond the limit", long)
}

// A length that lies must not cost more memory than the bytes that come.
func TestSnapshotLengthReservesLittle(t *testing.T) {
	raw := append(slices.Clone(snapshotMagic[:]), 0, 0, 0, 0x3f, 0, 0, 0, 0)
	raw = append(raw, make([]byte, 1000)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := ReadSnapshot(context.Background(), bytes.NewReader(raw), openMemory(t))
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrBadSnapshot) {
		t.Fatal(err)
	}
	allocated := after.TotalAlloc - before.TotalAlloc
	if allocated > 4<<20 {
		t.Errorf("%d bytes allocated for a stream of %d", allocated, len(raw))
	}
}

func TestReadSnapshotReportsErrors(t *testing.T) {
	x := filled(t)
	var b bytes.Buffer
	writeSnapshot(t, x.m, &b)
	for n := 1; ; n++ {
		f := &faulty{Engine: openMemory(t), failWrite: n}
		err := ReadSnapshot(context.Background(), bytes.NewReader(b.Bytes()), f)
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
	f := &faulty{Engine: openMemory(t), failSync: 1}
	if err := ReadSnapshot(context.Background(), bytes.NewReader(b.Bytes()), f); !errors.Is(err, errInjected) {
		t.Errorf("sync failed: %v", err)
	}
	broken := io.MultiReader(bytes.NewReader(b.Bytes()[:b.Len()/2]), iotest.ErrReader(errInjected))
	if err := ReadSnapshot(context.Background(), broken, openMemory(t)); !errors.Is(err, errInjected) {
		t.Errorf("reader failed: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := ReadSnapshot(ctx, bytes.NewReader(b.Bytes()), openMemory(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := ReadSnapshot(context.Background(), iotest.OneByteReader(bytes.NewReader(b.Bytes())), openMemory(t)); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
}

// failingWriter accepts some bytes and then fails.
type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errInjected
	}
	return len(p), nil
}

func TestWriteSnapshotReportsErrors(t *testing.T) {
	x := filled(t)
	v, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var b bytes.Buffer
	if err := v.WriteSnapshot(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	for left := 0; left < b.Len(); left += b.Len() / 10 {
		if err := v.WriteSnapshot(context.Background(), &failingWriter{left}); !errors.Is(err, errInjected) {
			t.Errorf("writer failed after %d bytes: %v", left, err)
		}
	}
}
