package enginetest

import (
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/storage"
)

func iterateChecks() []check {
	return []check{
		{"IterateBounds", checkIterateBounds},
		{"IteratePrefix", checkIteratePrefix},
		{"IterateMany", checkIterateMany},
		{"IterateWhileWriting", checkIterateWhileWriting},
		{"IterateLifecycle", checkIterateLifecycle},
		{"IterateDeleted", checkIterateDeleted},
	}
}

// wantRange walks rng in every way and compares with the pairs of all that lie
// in it.
func (x *fixture) wantRange(r storage.Reader, s storage.Space, rng storage.Range, all []pair) {
	x.Helper()
	var want []pair
	for _, p := range all {
		if rng.Contains([]byte(p.key)) {
			want = append(want, p)
		}
	}
	for _, reverse := range []bool{false, true} {
		for _, bulk := range []bool{false, true} {
			rng := storage.Range{Start: rng.Start, End: rng.End, Reverse: reverse, Bulk: bulk}
			x.wantWalk(r, s, rng, want)
			rng.KeysOnly = true
			keys := slices.Clone(want)
			for i := range keys {
				keys[i].value = ""
			}
			x.wantWalk(r, s, rng, keys)
		}
		slices.Reverse(want)
	}
}

// checkIterateBounds walks between every two bounds out of the keys, their
// neighbours and nothing, inverted ones included.
func checkIterateBounds(t T, f Factory) {
	x := open(t, f)
	var all []pair
	bounds := [][]byte{nil, {}}
	for i, key := range binaryKeys() {
		all = append(all, pair{key, fmt.Sprintf("v%d", i)})
		bounds = append(bounds, []byte(key))
	}
	bounds = append(bounds, []byte("\xff\xff\xff\xff"), []byte("aa"), []byte("\x00\x80"))
	x.write(func(b *storage.Batch) {
		for _, p := range all {
			b.Put(storage.Data, []byte(p.key), []byte(p.value))
		}
		// Neighbours in other spaces must never show.
		for s := storage.Expiry; s < storage.Spaces; s++ {
			b.Put(s, []byte("\x00"), []byte("other space"))
			b.Put(s, []byte("\xff\xff\xff\xff"), []byte("other space"))
		}
	})
	for _, start := range bounds {
		for _, end := range bounds {
			x.wantRange(x.engine, storage.Data, storage.Range{Start: start, End: end}, all)
		}
	}
}

func checkIteratePrefix(t T, f Factory) {
	x := open(t, f)
	var all []pair
	for i, key := range binaryKeys() {
		all = append(all, pair{key, fmt.Sprintf("v%d", i)})
		x.put(storage.Changelog, key, all[i].value)
	}
	x.put(storage.Meta, "\x00", "behind the space")
	prefixes := []string{"", "a", "a\xff", "a\xff\xff", "\x00", "\xff", "\xff\xff", "\xff\xff\xff\xff", "none", "b\x00"}
	for _, p := range prefixes {
		rng := storage.Prefix([]byte(p))
		x.wantRange(x.engine, storage.Changelog, rng, all)
		for _, q := range all {
			has := len(q.key) >= len(p) && q.key[:len(p)] == p
			if has != rng.Contains([]byte(q.key)) {
				t.Fatalf("storage.Prefix(%q).Contains(%q) = %v", p, q.key, !has)
			}
		}
	}
}

// checkIterateMany crosses whatever blocks and files an engine has.
func checkIterateMany(t T, f Factory) {
	x := open(t, f)
	const n = 3000
	var all []pair
	for i := range n {
		all = append(all, pair{fmt.Sprintf("key%05d", i), string(pattern(uint64(i), i%700))})
	}
	for part := range 3 { // in three layers, so that they have to be merged
		x.write(func(b *storage.Batch) {
			for i := part; i < n; i += 3 {
				b.Put(storage.Data, []byte(all[i].key), []byte(all[i].value))
			}
		})
		if f.Durable {
			x.reopen()
		}
	}
	for _, rng := range []storage.Range{
		{},
		{Start: []byte("key00100"), End: []byte("key00101")},
		{Start: []byte("key00064"), End: []byte("key00128")},
		{Start: []byte("key01000x"), End: []byte("key02000x")},
		storage.Prefix([]byte("key02")),
	} {
		x.wantRange(x.engine, storage.Data, rng, all)
	}
	if err := x.engine.Compact(); err != nil {
		t.Fatalf("Compact: %v", err)
	}
	x.wantRange(x.engine, storage.Data, storage.Range{}, all)
}

func checkIterateWhileWriting(t T, f Factory) {
	x := open(t, f)
	var all []pair
	x.write(func(b *storage.Batch) {
		for i := range 500 {
			all = append(all, pair{fmt.Sprintf("k%04d", i*2), "old"})
			b.Put(storage.Data, []byte(all[i].key), []byte("old"))
		}
	})
	for _, reverse := range []bool{false, true} {
		it := x.engine.Iterate(storage.Data, storage.Range{Reverse: reverse})
		var got []pair
		for it.Next() {
			got = append(got, pair{string(it.Key()), string(it.Value())})
			if len(got)%50 == 1 { // change what is behind and what is ahead
				x.write(func(b *storage.Batch) {
					for i := range 500 {
						b.Put(storage.Data, fmt.Appendf(nil, "k%04d", i*2+1), []byte("new"))
						b.Put(storage.Data, fmt.Appendf(nil, "k%04d", i*2), []byte("overwritten"))
					}
				})
				x.write(func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte("k0300"), []byte("k0700")) })
			}
		}
		if err := it.Err(); err != nil {
			t.Fatalf("iterate: %v", err)
		}
		it.Close()
		want := slices.Clone(all)
		if reverse {
			slices.Reverse(want)
		}
		diffPairs(t, "iterator with writes under way", got, want)
		x.write(func(b *storage.Batch) {
			b.DeleteRange(storage.Data, []byte("k"), []byte("l"))
			for _, p := range all {
				b.Put(storage.Data, []byte(p.key), []byte(p.value))
			}
		})
	}
}

func checkIterateLifecycle(t T, f Factory) {
	x := open(t, f)
	for i := range 10 {
		x.put(storage.Data, fmt.Sprintf("k%d", i), "v")
	}
	it := x.engine.Iterate(storage.Data, storage.Range{})
	for range 10 {
		if !it.Next() {
			t.Fatalf("iterator ended early: %v", it.Err())
		}
	}
	for range 3 { // stays at its end
		if it.Next() {
			t.Fatalf("iterator yields %q behind its end", it.Key())
		}
	}
	if err := it.Err(); err != nil {
		t.Fatalf("Err at the end: %v", err)
	}
	it.Close()
	it.Close()
	if it.Next() {
		t.Fatal("a closed iterator continues")
	}

	// Bounds belong to the caller.
	start, end := []byte("k3"), []byte("k6")
	it = x.engine.Iterate(storage.Data, storage.Range{Start: start, End: end})
	copy(start, "k0")
	copy(end, "k9")
	var got []pair
	for it.Next() {
		got = append(got, pair{key: string(it.Key()), value: string(it.Value())})
		// Asking again gives the same.
		if string(it.Key()) != got[len(got)-1].key || string(it.Value()) != "v" {
			t.Fatal("Key or Value changes when asked twice")
		}
	}
	it.Close()
	diffPairs(t, "iterator whose bounds were overwritten", got, []pair{{"k3", "v"}, {"k4", "v"}, {"k5", "v"}})

	// One left half way, and several at once.
	a := x.engine.Iterate(storage.Data, storage.Range{})
	b := x.engine.Iterate(storage.Data, storage.Range{Reverse: true})
	a.Next()
	b.Next()
	a.Next()
	if string(a.Key()) != "k1" || string(b.Key()) != "k9" {
		t.Fatalf("two iterators disturb each other: at %q and %q", a.Key(), b.Key())
	}
	a.Close()
	b.Close()
}

// checkIterateDeleted has nothing but deleted keys around a few live ones.
func checkIterateDeleted(t T, f Factory) {
	x := open(t, f)
	x.write(func(b *storage.Batch) {
		for i := range 2000 {
			b.Put(storage.Data, fmt.Appendf(nil, "k%04d", i), []byte("v"))
		}
	})
	x.write(func(b *storage.Batch) {
		for i := range 2000 {
			if i%500 != 250 {
				b.Delete(storage.Data, fmt.Appendf(nil, "k%04d", i))
			}
		}
	})
	want := []pair{{"k0250", "v"}, {"k0750", "v"}, {"k1250", "v"}, {"k1750", "v"}}
	x.wantRange(x.engine, storage.Data, storage.Range{}, want)
	x.wantRange(x.engine, storage.Data, storage.Range{Start: []byte("k0251"), End: []byte("k0750")}, want)
	x.wantRange(x.engine, storage.Data, storage.Range{Start: []byte("k0750"), End: []byte("k1750")}, want)
}
