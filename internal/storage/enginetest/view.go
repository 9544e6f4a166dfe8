package enginetest

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
)

func viewChecks() []check {
	return []check{
		{"ViewIsPinned", checkViewPinned},
		{"SeveralViews", checkSeveralViews},
		{"ViewSurvivesCompaction", checkViewCompaction},
	}
}

func checkViewPinned(t T, f Factory) {
	x := open(t, f)
	var all []pair
	x.write(func(b *storage.Batch) {
		for i := range 20 {
			all = append(all, pair{fmt.Sprintf("k%02d", i), fmt.Sprintf("v%02d", i)})
			b.Put(storage.Data, []byte(all[i].key), []byte(all[i].value))
		}
	})
	v := x.view()
	x.write(func(b *storage.Batch) {
		b.Put(storage.Data, []byte("k05"), []byte("changed"))
		b.Put(storage.Data, []byte("new"), []byte("new"))
		b.Delete(storage.Data, []byte("k06"))
	})
	x.write(func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte("k10"), []byte("k15")) })

	for _, p := range all {
		x.wantGet(v, storage.Data, p.key, p.value)
	}
	x.wantAbsent(v, storage.Data, "new")
	x.wantRange(v, storage.Data, storage.Range{}, all)
	many, err := v.MultiGet(storage.Data, [][]byte{[]byte("k05"), []byte("k06"), []byte("k12"), []byte("new")})
	if err != nil || string(many[0]) != "v05" || string(many[1]) != "v06" || string(many[2]) != "v12" || many[3] != nil {
		t.Fatalf("MultiGet of a view = %q, %v", many, err)
	}
	// The engine has changed since.
	x.wantGet(x.engine, storage.Data, "k05", "changed")
	x.wantAbsent(x.engine, storage.Data, "k06")
	x.wantAbsent(x.engine, storage.Data, "k12")

	// An iterator of a view outlives the next writes too.
	it := v.Iterate(storage.Data, storage.Range{})
	it.Next()
	x.write(func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte("k"), []byte("l")) })
	n := 1
	for it.Next() {
		n++
	}
	if err := it.Err(); err != nil || n != len(all) {
		t.Fatalf("iterator of a view: %d pairs of %d, %v", n, len(all), err)
	}
	it.Close()
	v.Close()
	v.Close()
	x.wantWalk(x.engine, storage.Data, storage.Range{}, []pair{{"new", "new"}})
}

func checkSeveralViews(t T, f Factory) {
	x := open(t, f)
	views := make([]storage.View, 10)
	for i := range views {
		x.put(storage.Data, "counter", fmt.Sprint(i))
		x.put(storage.Data, fmt.Sprintf("key%d", i), "v")
		views[i] = x.view()
	}
	// In no particular order, so that closing one does not disturb another.
	for _, i := range []int{9, 0, 5, 4, 7, 1, 3, 8, 2, 6} {
		x.put(storage.Data, "counter", "later")
		x.wantGet(views[i], storage.Data, "counter", fmt.Sprint(i))
		if got := len(x.walk(views[i], storage.Data, storage.Range{})); got != i+2 {
			t.Fatalf("view %d has %d keys, want %d", i, got, i+2)
		}
		views[i].Close()
	}
	x.wantGet(x.engine, storage.Data, "counter", "later")
}

// checkViewCompaction has a view across rewrites of everything that it sees.
func checkViewCompaction(t T, f Factory) {
	x := open(t, f)
	fill := func(round int) (all []pair) {
		x.write(func(b *storage.Batch) {
			for i := range 300 {
				p := pair{fmt.Sprintf("k%03d", i), string(pattern(uint64(round*1000+i), 200))}
				b.Put(storage.Data, []byte(p.key), []byte(p.value))
				all = append(all, p)
			}
		})
		return all
	}
	old := fill(0)
	v := x.view()
	for round := 1; round <= 3; round++ {
		newest := fill(round)
		if err := x.engine.Compact(); err != nil {
			t.Fatalf("Compact: %v", err)
		}
		x.wantWalk(v, storage.Data, storage.Range{}, old)
		x.wantWalk(x.engine, storage.Data, storage.Range{}, newest)
	}
	x.write(func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte("k"), []byte("l")) })
	if err := x.engine.Compact(); err != nil {
		t.Fatalf("Compact: %v", err)
	}
	x.wantWalk(v, storage.Data, storage.Range{}, old)
	x.wantWalk(x.engine, storage.Data, storage.Range{}, nil)
}
