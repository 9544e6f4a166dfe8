package enginetest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/storage"
)

func pointChecks() []check {
	return []check{
		{"GetPutDelete", checkGetPutDelete},
		{"EmptyEngine", checkEmptyEngine},
		{"EmptyValue", checkEmptyValue},
		{"BinaryKeys", checkBinaryKeys},
		{"LargeKeysAndValues", checkLarge},
		{"LargeValueReplaced", checkLargeReplaced},
		{"MultiGet", checkMultiGet},
		{"MultiGetIsBounded", checkMultiGetBound},
		{"ResultsBelongToTheCaller", checkOwnership},
		{"SpacesAreIsolated", checkSpaces},
		{"ValueParts", checkValueParts},
	}
}

func checkGetPutDelete(t T, f Factory) {
	x := open(t, f)
	e := x.engine
	x.put(storage.Data, "k", "v1")
	x.wantGet(e, storage.Data, "k", "v1")
	x.put(storage.Data, "k", "v2")
	x.wantGet(e, storage.Data, "k", "v2")
	x.wantAbsent(e, storage.Data, "j")
	x.wantAbsent(e, storage.Data, "k\x00")
	x.write(func(b *storage.Batch) { b.Delete(storage.Data, []byte("k")) })
	x.wantAbsent(e, storage.Data, "k")
	x.write(func(b *storage.Batch) { b.Delete(storage.Data, []byte("never there")) })
	x.put(storage.Data, "k", "v3")
	x.wantGet(e, storage.Data, "k", "v3")
	if err := e.Sync(); err != nil {
		t.Fatalf("Sync: %v", err)
	}
	var b storage.Batch
	b.Put(storage.Data, []byte("synced"), []byte("yes"))
	if err := e.Write(&b, true); err != nil {
		t.Fatalf("Write with sync: %v", err)
	}
	x.wantGet(e, storage.Data, "synced", "yes")
}

func checkEmptyEngine(t T, f Factory) {
	x := open(t, f)
	for s := range storage.Space(storage.Spaces) {
		x.wantAbsent(x.engine, s, "k")
		x.wantWalk(x.engine, s, storage.Range{}, nil)
		x.wantWalk(x.engine, s, storage.Range{Reverse: true}, nil)
	}
	x.write(func(*storage.Batch) {}) // an empty batch is no error
	var b storage.Batch
	if err := x.engine.Write(&b, true); err != nil {
		t.Fatalf("Write of an empty batch with sync: %v", err)
	}
}

func checkEmptyValue(t T, f Factory) {
	x := open(t, f)
	x.put(storage.Data, "empty", "")
	x.wantGet(x.engine, storage.Data, "empty", "")
	got, err := x.engine.MultiGet(storage.Data, [][]byte{[]byte("empty"), []byte("absent")})
	if err != nil {
		t.Fatalf("MultiGet: %v", err)
	}
	if got[0] == nil || len(got[0]) != 0 {
		t.Errorf("MultiGet of an empty value = %v, want empty and not nil", got[0])
	}
	if got[1] != nil {
		t.Errorf("MultiGet of an absent key = %v, want nil", got[1])
	}
	x.wantWalk(x.engine, storage.Data, storage.Range{}, []pair{{"empty", ""}})
	x.put(storage.Data, "empty", "not any more")
	x.wantGet(x.engine, storage.Data, "empty", "not any more")
	x.put(storage.Data, "empty", "")
	x.wantGet(x.engine, storage.Data, "empty", "")
}

// binaryKeys are awkward keys in their order.
func binaryKeys() []string {
	return []string{
		"\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "!badger!x", "a", "a\x00", "a\x00\x00", "a\xff", "a\xff\xff",
		"b", "\x7f", "\x80", "\xfe\xff", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff",
	}
}

func checkBinaryKeys(t T, f Factory) {
	x := open(t, f)
	keys := binaryKeys()
	x.write(func(b *storage.Batch) {
		for i := len(keys) - 1; i >= 0; i-- {
			b.Put(storage.Meta, []byte(keys[i]), fmt.Appendf(nil, "v%d", i))
		}
	})
	want := make([]pair, len(keys))
	for i, key := range keys {
		want[i] = pair{key, fmt.Sprintf("v%d", i)}
		x.wantGet(x.engine, storage.Meta, key, want[i].value)
	}
	x.wantWalk(x.engine, storage.Meta, storage.Range{}, want)
}

func checkLarge(t T, f Factory) {
	x := open(t, f)
	key := pattern(1, 1024)
	value := pattern(2, 4<<20)
	record := pattern(3, 4<<20+4096)
	for range 2 { // the second round overwrites the first
		x.write(func(b *storage.Batch) {
			b.Put(storage.Data, key, value)
			b.Put(storage.Changelog, []byte("record"), record)
		})
		x.wantGet(x.engine, storage.Data, string(key), string(value))
		x.wantGet(x.engine, storage.Changelog, "record", string(record))
		x.wantWalk(x.engine, storage.Data, storage.Range{}, []pair{{string(key), string(value)}})
		x.wantWalk(x.engine, storage.Data, storage.Range{Reverse: true}, []pair{{string(key), string(value)}})
		value = pattern(4, 4<<20)
	}
	many, err := x.engine.MultiGet(storage.Changelog, [][]byte{[]byte("record")})
	if err != nil || !bytes.Equal(many[0], record) {
		t.Fatalf("MultiGet of a large value = %s, %v", show(many[0]), err)
	}
}

// checkLargeReplaced takes a value through sizes that an engine may store in
// different ways, and deletes it in each.
func checkLargeReplaced(t T, f Factory) {
	x := open(t, f)
	sizes := []int{10, 3 << 20, 0, 1<<20 - 1, 1 << 20, 1<<20 + 1, 100, 2 << 20, 5 << 20, 1 << 20}
	for i, n := range sizes {
		value := string(pattern(uint64(i), n))
		x.put(storage.Data, "k", value)
		x.put(storage.Data, "k2", value)
		x.wantGet(x.engine, storage.Data, "k", value)
		before := x.view()
		switch i % 3 {
		case 1:
			x.write(func(b *storage.Batch) { b.Delete(storage.Data, []byte("k")) })
			x.wantAbsent(x.engine, storage.Data, "k")
		case 2:
			x.write(func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte("k"), []byte("k1")) })
			x.wantAbsent(x.engine, storage.Data, "k")
		}
		x.wantGet(x.engine, storage.Data, "k2", value)
		x.wantWalk(before, storage.Data, storage.Range{}, []pair{{"k", value}, {"k2", value}})
		if f.Durable && i%4 == 3 {
			before.Close()
			x.reopen()
			x.wantGet(x.engine, storage.Data, "k2", value)
		}
	}
}

func checkMultiGet(t T, f Factory) {
	x := open(t, f)
	x.write(func(b *storage.Batch) {
		for i := range 200 {
			b.Put(storage.Data, fmt.Appendf(nil, "k%03d", i), fmt.Appendf(nil, "v%03d", i))
		}
	})
	var keys [][]byte
	for i := range 200 {
		keys = append(keys, fmt.Appendf(nil, "k%03d", 199-i), fmt.Appendf(nil, "absent%03d", i))
	}
	keys = append(keys, keys[0], keys[1], keys[0]) // duplicates
	for name, r := range map[string]storage.Reader{"engine": x.engine, "view": x.view()} {
		got, err := r.MultiGet(storage.Data, keys)
		if err != nil || len(got) != len(keys) {
			t.Fatalf("%s: MultiGet of %d keys: %d values, %v", name, len(keys), len(got), err)
		}
		for i, key := range keys {
			want := []byte("v" + string(key[1:]))
			if key[0] == 'a' {
				want = nil
			}
			if !bytes.Equal(got[i], want) || (got[i] == nil) != (want == nil) {
				t.Fatalf("%s: MultiGet[%d] of %q = %q, want %q", name, i, key, got[i], want)
			}
		}
		for _, none := range [][][]byte{nil, {}} {
			got, err := r.MultiGet(storage.Data, none)
			if err != nil || len(got) != 0 {
				t.Fatalf("%s: MultiGet of no keys = %v, %v", name, got, err)
			}
		}
	}
}

// checkMultiGetBound: a few keys may name more than the memory holds, in any order.
func checkMultiGetBound(t T, f Factory) {
	x := open(t, f)
	const size, many = storage.MultiGetBytes / 4, 12
	var keys [][]byte
	for i := range many {
		keys = append(keys, fmt.Appendf(nil, "k%02d", i))
		x.put(storage.Data, string(keys[i]), string(pattern(uint64(i), size)))
	}
	backwards := slices.Clone(keys)
	slices.Reverse(backwards)
	mixed := [][]byte{keys[11], []byte("absent"), keys[3], keys[3], keys[7], keys[0], keys[9], keys[11], []byte("k"), keys[1]}
	for name, r := range map[string]storage.Reader{"engine": x.engine, "view": x.view()} {
		for _, asked := range [][][]byte{keys, backwards, mixed} {
			for rest := asked; len(rest) > 0; {
				got, err := r.MultiGet(storage.Data, rest)
				if err != nil || len(got) == 0 || len(got) > len(rest) {
					t.Fatalf("%s: MultiGet of %q: %d values, %v", name, rest, len(got), err)
				}
				total := 0
				for i, v := range got {
					want, found, err := r.Get(storage.Data, rest[i])
					if err != nil || found != (v != nil) || !bytes.Equal(v, want) {
						t.Fatalf("%s: MultiGet[%d] of %q has %d bytes, want %d, %v", name, i, rest, len(v), len(want), err)
					}
					total += len(v)
				}
				if total >= storage.MultiGetBytes+2*size || total <= storage.MultiGetBytes && len(got) < len(rest) {
					t.Fatalf("%s: MultiGet of %d keys has %d values of %d bytes", name, len(rest), len(got), total)
				}
				rest = rest[len(got):]
			}
		}
	}
}

func checkOwnership(t T, f Factory) {
	x := open(t, f)
	key, value := []byte("key"), []byte("value")
	var b storage.Batch
	b.Put(storage.Data, key, value)
	b.Put(storage.Data, []byte("big"), pattern(1, 100_000))
	if err := x.engine.Write(&b, false); err != nil {
		t.Fatalf("Write: %v", err)
	}
	// What was passed in may be changed, the batch included.
	copy(key, "xxx")
	copy(value, "xxxxx")
	b.Reset()
	b.Put(storage.Expiry, []byte("other"), repeatBytes('x', 200_000))
	x.wantGet(x.engine, storage.Data, "key", "value")

	// What was returned may be changed and kept.
	got, _, err := x.engine.Get(storage.Data, []byte("key"))
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	many, err := x.engine.MultiGet(storage.Data, [][]byte{[]byte("key"), []byte("key"), []byte("big")})
	if err != nil {
		t.Fatalf("MultiGet: %v", err)
	}
	copy(got, "xxxxx")
	copy(many[0], "yyyyy")
	if string(many[1]) != "value" {
		t.Errorf("MultiGet shares memory between its results: %q", many[1])
	}
	_ = append(many[0], "overrun"...)
	if string(many[1]) != "value" {
		t.Errorf("MultiGet's results can be appended to into each other: %q", many[1])
	}
	x.wantGet(x.engine, storage.Data, "key", "value")
	for i := range 100 {
		x.put(storage.Data, fmt.Sprintf("more%d", i), repeat('z', 1000))
	}
	if !bytes.Equal(many[2], pattern(1, 100_000)) {
		t.Error("a returned value changed under its owner")
	}
}

func repeatBytes(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n) }

func checkSpaces(t T, f Factory) {
	x := open(t, f)
	for s := range storage.Space(storage.Spaces) {
		x.put(s, "k", "in "+s.String())
		x.put(s, "\x00", "first")
		x.put(s, "\xff\xff", "last")
	}
	x.write(func(b *storage.Batch) {
		b.Delete(storage.Expiry, []byte("k"))
		b.DeleteRange(storage.Changelog, []byte("\x00"), []byte("\xff\xff\xff"))
	})
	for _, s := range []storage.Space{storage.Data, storage.Meta} {
		want := []pair{{"\x00", "first"}, {"k", "in " + s.String()}, {"\xff\xff", "last"}}
		x.wantWalk(x.engine, s, storage.Range{}, want)
		x.wantWalk(x.engine, s, storage.Range{Reverse: true}, []pair{want[2], want[1], want[0]})
		x.wantGet(x.engine, s, "k", "in "+s.String())
	}
	x.wantAbsent(x.engine, storage.Expiry, "k")
	x.wantWalk(x.engine, storage.Changelog, storage.Range{}, nil)
	x.wantWalk(x.engine, storage.Changelog, storage.Range{Reverse: true}, nil)
}

func checkValueParts(t T, f Factory) {
	x := open(t, f)
	x.write(func(b *storage.Batch) {
		b.Put(storage.Data, []byte("parts"), []byte("head"), nil, []byte("er"), []byte{}, []byte("+value"))
		b.Put(storage.Data, []byte("none"))
	})
	x.wantGet(x.engine, storage.Data, "parts", "header+value")
	x.wantGet(x.engine, storage.Data, "none", "")
}
