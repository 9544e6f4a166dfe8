package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/storage"
)

// damage is one way to spoil a file.
type damage struct {
	name  string
	spoil func(data []byte) []byte
}

func damages() []damage {
	flipAt := func(name string, at func(n int) int) damage {
		return damage{name, func(data []byte) []byte {
			data[at(len(data))] ^= 0x55
			return data
		}}
	}
	return []damage{
		flipAt("first byte flipped", func(int) int { return 0 }),
		flipAt("byte at a third flipped", func(n int) int { return n / 3 }),
		flipAt("byte in the middle flipped", func(n int) int { return n / 2 }),
		flipAt("byte near the end flipped", func(n int) int { return n - n/50 - 1 }),
		flipAt("last byte flipped", func(n int) int { return n - 1 }),
		{"4 KiB in the middle zeroed", func(data []byte) []byte {
			mid := len(data) / 2
			clear(data[mid:min(len(data), mid+4096)])
			return data
		}},
		{"second half cut off", func(data []byte) []byte { return data[:len(data)/2] }},
		{"emptied", func([]byte) []byte { return nil }},
	}
}

// checkCorrupt damages every table file of a closed engine in several ways.
// Opening it or reading from it must say storage.ErrCorrupt; damage to a byte
// that carries nothing may go unnoticed, but a wrong value, a missing key or a
// walk that ends early is never passed off as the truth.
func checkCorrupt(t T, f Factory) {
	if f.Tables == "" {
		t.Skip("the engine has no table files")
	}
	x := open(t, f)
	var all []pair
	for part := range 2 {
		x.write(func(b *storage.Batch) {
			for i := range 400 {
				p := pair{fmt.Sprintf("k%d-%04d", part, i), string(pattern(uint64(part*1000+i), 300))}
				all = append(all, p)
				b.Put(storage.Data, []byte(p.key), []byte(p.value))
			}
		})
	}
	if err := x.engine.Compact(); err != nil {
		t.Fatalf("Compact: %v", err)
	}
	if err := x.engine.Verify(context.Background()); err != nil {
		t.Errorf("Verify of an intact engine: %v", err)
	}
	if err := x.engine.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	tables, err := filepath.Glob(filepath.Join(x.dir, f.Tables))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no file matches %s: %v", f.Tables, err)
	}
	noticed := 0
	for _, table := range tables {
		for _, d := range damages() {
			if damagedOnce(t, f, x.dir, table, d, all) {
				noticed++
			}
		}
	}
	if noticed < len(tables)*len(damages())/2 {
		t.Errorf("only %d of %d damages were noticed", noticed, len(tables)*len(damages()))
	}
	x.open() // so that the clean-up has something to close
	x.wantWalk(x.engine, storage.Data, storage.Range{}, all)
}

// damagedOnce applies d to one file of a copy of dir, and reports whether the
// engine noticed.
func damagedOnce(t T, f Factory, dir, table string, d damage, all []pair) bool {
	t.Helper()
	what := filepath.Base(table) + ": " + d.name
	copyDir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copyDir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(copyDir)
	rel, err := filepath.Rel(dir, table)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(copyDir, rel)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, d.spoil(data), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := f.Open(copyDir)
	if err != nil {
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: Open: %v, want ErrCorrupt", what, err)
		}
		return true
	}
	defer func() { _ = e.Close() }()
	noticed := readDamaged(t, what, e, all)
	switch err := e.Verify(context.Background()); {
	case errors.Is(err, storage.ErrCorrupt):
		noticed = true
	case err != nil:
		t.Errorf("%s: Verify: %v, want ErrCorrupt", what, err)
	case noticed:
		t.Errorf("%s: Verify does not notice what reading does", what)
	}
	return noticed
}

// readDamaged reads everything in every way; each must give the truth or
// ErrCorrupt.
func readDamaged(t T, what string, e Engine, all []pair) (noticed bool) {
	t.Helper()
	verdict := func(how string, err error, right bool) {
		t.Helper()
		switch {
		case errors.Is(err, storage.ErrCorrupt):
			noticed = true
		case err != nil:
			t.Errorf("%s: %s: %v, want ErrCorrupt", what, how, err)
		case !right:
			t.Errorf("%s: %s serves something else than was written", what, how)
		}
	}
	keys := make([][]byte, len(all))
	for i, p := range all {
		keys[i] = []byte(p.key)
		value, found, err := e.Get(storage.Data, keys[i])
		verdict("Get", err, found && string(value) == p.value)
	}
	values, err := e.MultiGet(storage.Data, keys)
	right := len(values) == len(all)
	for i := 0; right && i < len(all); i++ {
		right = string(values[i]) == all[i].value
	}
	verdict("MultiGet", err, right)
	for _, reverse := range []bool{false, true} {
		it := e.Iterate(storage.Data, storage.Range{Reverse: reverse})
		n, right := 0, true
		for it.Next() {
			want := n
			if reverse {
				want = len(all) - 1 - n
			}
			if want < 0 || want >= len(all) || string(it.Key()) != all[want].key || string(it.Value()) != all[want].value {
				right = false
				break
			}
			n++
		}
		// Up to an error the pairs must be right; without one, complete.
		verdict("Iterate", it.Err(), right && n == len(all))
		if !right {
			t.Errorf("%s: Iterate yields a wrong pair", what)
		}
		it.Close()
	}
	return noticed
}
