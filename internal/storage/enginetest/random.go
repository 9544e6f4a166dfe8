package enginetest

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// checkRandom runs random sequences of operations on the engine and on the
// memory engine side by side and compares the two after every step. A failure
// names the seed to run it again with: -rapid.seed=N.
func checkRandom(t T, f Factory) {
	defer setRuns(cmp.Or(f.RandomRuns, defaultRandomRuns))()
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "random")
		if err != nil {
			r.Fatal(err)
		}
		m := &machine{factory: f, dir: dir}
		defer m.close()
		m.open(r)
		r.Repeat(map[string]func(*rapid.T){
			"":           m.compare,
			"write":      m.write,
			"deleteMany": m.deleteMany,
			"view":       m.openView,
			"closeView":  m.closeView,
			"range":      m.walkRange,
			"multiGet":   m.multiGet,
			"reopen":     m.reopen,
			"checkpoint": m.checkpoint,
			"compact":    m.compact,
		})
	})
}

// setRuns sets how many sequences rapid runs, unless -rapid.checks asks for
// another number than its default. It returns what undoes that.
func setRuns(n int) (undo func()) {
	const standard = "100"
	checks := flag.Lookup("rapid.checks")
	if checks == nil || checks.Value.String() != standard {
		return func() {}
	}
	_ = checks.Value.Set(strconv.Itoa(n))
	return func() { _ = checks.Value.Set(standard) }
}

// machine is an engine beside its model.
type machine struct {
	factory Factory
	dir     string
	serial  int
	engine  Engine
	model   Engine
	views   []viewPair
}

type viewPair struct{ got, want storage.View }

// cheap keeps the slow operations rare: it is true once in n times.
func cheap(r *rapid.T, n int) bool { return rapid.IntRange(0, n-1).Draw(r, "rarely") != 0 }

func (m *machine) open(r *rapid.T) {
	var err error
	if m.engine, err = m.factory.Open(m.dir); err != nil {
		r.Fatalf("Open: %v", err)
	}
	if m.model == nil {
		if m.model, err = memory.Open(memory.Options{}); err != nil {
			r.Fatal(err)
		}
	}
}

func (m *machine) close() {
	m.dropViews()
	if m.engine != nil {
		_ = m.engine.Close()
	}
	_ = os.RemoveAll(m.dir)
}

func (m *machine) dropViews() {
	for _, v := range m.views {
		v.got.Close()
		v.want.Close()
	}
	m.views = nil
}

// drawKey draws from few short keys, so that operations meet each other.
func drawKey(r *rapid.T) []byte {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0x00, 'a', 'b', 0xff}), 1, 4).Draw(r, "key")
}

func drawSpace(r *rapid.T) storage.Space {
	return storage.Space(rapid.IntRange(0, storage.Spaces-1).Draw(r, "space"))
}

func (m *machine) drawValue(r *rapid.T) []byte {
	m.serial++
	n := rapid.SampledFrom([]int{0, 1, 10, 100, 5000}).Draw(r, "size")
	if rapid.IntRange(0, 199).Draw(r, "huge") == 0 {
		n = 1<<20 + 77
	}
	return pattern(uint64(m.serial), n)
}

func (m *machine) write(r *rapid.T) {
	var b storage.Batch
	for range rapid.IntRange(0, 12).Draw(r, "operations") {
		s, key := drawSpace(r), drawKey(r)
		switch rapid.IntRange(0, 9).Draw(r, "operation") {
		case 0, 1:
			b.Delete(s, key)
		case 2:
			b.DeleteRange(s, key, drawKey(r))
		default:
			b.Put(s, key, m.drawValue(r))
		}
	}
	m.apply(r, &b, !cheap(r, 5))
}

// deleteMany removes a broad range, with something put on either side of it.
func (m *machine) deleteMany(r *rapid.T) {
	var b storage.Batch
	s := drawSpace(r)
	b.Put(s, []byte("a"), m.drawValue(r))
	b.DeleteRange(s, []byte{0x00}, []byte{'b'})
	b.Put(s, []byte{0x00}, m.drawValue(r))
	m.apply(r, &b, false)
}

func (m *machine) apply(r *rapid.T, b *storage.Batch, sync bool) {
	if err := m.engine.Write(b, sync); err != nil {
		r.Fatalf("Write: %v", err)
	}
	if err := m.model.Write(b, sync); err != nil {
		r.Fatal(err)
	}
}

func (m *machine) openView(r *rapid.T) {
	if len(m.views) == 4 {
		r.Skip("enough views")
	}
	got, err := m.engine.NewView()
	if err != nil {
		r.Fatalf("NewView: %v", err)
	}
	want, err := m.model.NewView()
	if err != nil {
		r.Fatal(err)
	}
	m.views = append(m.views, viewPair{got, want})
}

func (m *machine) closeView(r *rapid.T) {
	if len(m.views) == 0 {
		r.Skip("no view")
	}
	i := rapid.IntRange(0, len(m.views)-1).Draw(r, "view")
	m.views[i].got.Close()
	m.views[i].want.Close()
	m.views = append(m.views[:i], m.views[i+1:]...)
}

func (m *machine) walkRange(r *rapid.T) {
	rng := storage.Range{
		Reverse:  rapid.Bool().Draw(r, "reverse"),
		KeysOnly: rapid.Bool().Draw(r, "keysOnly"),
		Bulk:     rapid.Bool().Draw(r, "bulk"),
	}
	if rapid.Bool().Draw(r, "hasStart") {
		rng.Start = drawKey(r)
	}
	if rapid.Bool().Draw(r, "hasEnd") {
		rng.End = drawKey(r)
	}
	s := drawSpace(r)
	walked(r, fmt.Sprintf("range %+v", rng), m.engine, m.model, s, rng)
	for i, v := range m.views {
		walked(r, fmt.Sprintf("view %d: range %+v", i, rng), v.got, v.want, s, rng)
	}
}

func (m *machine) multiGet(r *rapid.T) {
	var keys [][]byte
	for range rapid.IntRange(0, 10).Draw(r, "keys") {
		keys = append(keys, drawKey(r))
	}
	s := drawSpace(r)
	same := func(got, want storage.Reader) {
		a, err := got.MultiGet(s, keys)
		if err != nil || len(a) != len(keys) {
			r.Fatalf("MultiGet: %d values, %v", len(a), err)
		}
		b, _ := want.MultiGet(s, keys)
		for i := range keys {
			one, found, err := got.Get(s, keys[i])
			if err != nil || found != (b[i] != nil) || string(one) != string(b[i]) {
				r.Fatalf("Get(%v, %q) = %s, %v, %v, want %s", s, keys[i], show(one), found, err, show(b[i]))
			}
			if string(a[i]) != string(b[i]) || (a[i] == nil) != (b[i] == nil) {
				r.Fatalf("MultiGet(%v, %q) = %s, want %s", s, keys[i], show(a[i]), show(b[i]))
			}
		}
	}
	same(m.engine, m.model)
	for _, v := range m.views {
		same(v.got, v.want)
	}
}

func (m *machine) reopen(r *rapid.T) {
	if !m.factory.Durable || cheap(r, 4) {
		r.Skip("not now")
	}
	m.dropViews()
	if err := m.engine.Close(); err != nil {
		r.Fatalf("Close: %v", err)
	}
	m.open(r)
}

func (m *machine) compact(r *rapid.T) {
	if cheap(r, 4) {
		r.Skip("not now")
	}
	if err := m.engine.Compact(); err != nil {
		r.Fatalf("Compact: %v", err)
	}
}

func (m *machine) checkpoint(r *rapid.T) {
	if cheap(r, 6) {
		r.Skip("not now")
	}
	m.serial++
	dir := filepath.Join(filepath.Dir(m.dir), fmt.Sprintf("%s-%d", filepath.Base(m.dir), m.serial))
	defer os.RemoveAll(dir)
	if err := m.engine.Checkpoint(dir); err != nil {
		r.Fatalf("Checkpoint: %v", err)
	}
	openIn := m.factory.OpenCheckpoint
	if openIn == nil {
		openIn = m.factory.Open
	}
	c, err := openIn(dir)
	if err != nil {
		r.Fatalf("open checkpoint: %v", err)
	}
	defer func() { _ = c.Close() }()
	for s := range storage.Space(storage.Spaces) {
		walked(r, "checkpoint", c, m.model, s, storage.Range{})
	}
}

// compare checks the whole of the engine and of each view.
func (m *machine) compare(r *rapid.T) {
	for s := range storage.Space(storage.Spaces) {
		walked(r, "engine", m.engine, m.model, s, storage.Range{})
		for i, v := range m.views {
			walked(r, fmt.Sprintf("view %d", i), v.got, v.want, s, storage.Range{})
		}
	}
}

// walked compares two iterators step by step.
func walked(r *rapid.T, what string, got, want storage.Reader, s storage.Space, rng storage.Range) {
	a, b := got.Iterate(s, rng), want.Iterate(s, rng)
	defer a.Close()
	defer b.Close()
	for i := 0; ; i++ {
		more, wanted := a.Next(), b.Next()
		if err := a.Err(); err != nil {
			r.Fatalf("%s: space %v: %v", what, s, err)
		}
		if more != wanted {
			r.Fatalf("%s: space %v: there is a pair %d: %v, want %v", what, s, i, more, wanted)
		}
		if !more {
			return
		}
		if string(a.Key()) != string(b.Key()) {
			r.Fatalf("%s: space %v: key %d is %s, want %s", what, s, i, show(a.Key()), show(b.Key()))
		}
		if !rng.KeysOnly && string(a.Value()) != string(b.Value()) {
			r.Fatalf("%s: space %v: value of %s is %s, want %s", what, s, show(a.Key()), show(a.Value()), show(b.Value()))
		}
	}
}
