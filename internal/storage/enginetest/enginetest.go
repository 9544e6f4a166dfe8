// Package enginetest is the one suite that every storage engine passes:
// conformance to storage.Engine, random operations compared with the memory
// engine, crashes and corruption, and the benchmarks that compare engines.
//
// An engine's tests are three short functions:
//
//	func TestEngine(t *testing.T)   { enginetest.Run(t, factory) }
//	func TestCrash(t *testing.T)    { enginetest.RunCrash(t, factory) }
//	func BenchmarkEngine(b *testing.B) { enginetest.Bench(b, factory) }
//
// Every check is written against T rather than *testing.T, so that the
// package's own tests can run it on engines that are broken on purpose and see
// it fail.
package enginetest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// Engine is an engine under test: one that can compact on demand, so that reads
// go through its sorted files.
type Engine interface {
	storage.Engine
	// Compact reclaims space now rather than in the background.
	Compact() error
}

// Factory opens the engine under test and says what to expect of it.
type Factory struct {
	// Open opens the engine in dir, a directory that exists and is empty, or
	// where an engine of the same factory was before. An engine without
	// directories ignores it.
	Open func(dir string) (Engine, error)
	// OpenCheckpoint opens a directory that Checkpoint wrote. nil means Open.
	OpenCheckpoint func(dir string) (Engine, error)
	// Durable says that the state outlives Close, and that a directory can be
	// open only once.
	Durable bool
	// RandomRuns is how many random sequences of operations are tried; 0 means
	// defaultRandomRuns, which suits engines that have files to open.
	RandomRuns int
	// Tables is the glob pattern of the names of the files that hold the data
	// of a compacted, closed engine. Each of them is damaged in turn; ""
	// leaves that out.
	Tables string
}

const defaultRandomRuns = 8

// T is what a check needs of *testing.T.
type T interface {
	Helper()
	Name() string
	Log(args ...any)
	Logf(format string, args ...any)
	Skip(args ...any)
	Skipf(format string, args ...any)
	SkipNow()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Fail()
	FailNow()
	Failed() bool
	Cleanup(func())
	TempDir() string
}

// check is one test of an engine.
type check struct {
	name string
	run  func(T, Factory)
}

// checks are all that Run runs.
func checks() []check {
	var all []check
	all = append(all, pointChecks()...)
	all = append(all, batchChecks()...)
	all = append(all, iterateChecks()...)
	all = append(all, viewChecks()...)
	all = append(all, lifecycleChecks()...)
	all = append(all, loadChecks()...)
	all = append(all, concurrencyChecks()...)
	all = append(all, check{"RandomOperations", checkRandom})
	all = append(all, check{"CorruptTables", checkCorrupt})
	return all
}

// Run runs every check of the suite but the crash tests as a subtest of t.
func Run(t *testing.T, f Factory) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.run(t, f) })
	}
}

// fixture is an open engine with shorthands that fail the test.
type fixture struct {
	T
	factory Factory
	dir     string
	engine  Engine
}

// open opens an empty engine and closes it when the test ends.
func open(t T, f Factory) *fixture {
	t.Helper()
	x := &fixture{T: t, factory: f, dir: t.TempDir()}
	x.open()
	t.Cleanup(func() {
		if err := x.engine.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return x
}

func (x *fixture) open() {
	x.Helper()
	e, err := x.factory.Open(x.dir)
	if err != nil {
		x.Fatalf("Open: %v", err)
	}
	x.engine = e
}

// reopen closes the engine and opens it again.
func (x *fixture) reopen() {
	x.Helper()
	if err := x.engine.Close(); err != nil {
		x.Fatalf("Close: %v", err)
	}
	x.open()
}

// openCheckpoint opens a checkpoint until the test ends.
func (x *fixture) openCheckpoint(dir string) Engine {
	x.Helper()
	openIn := x.factory.OpenCheckpoint
	if openIn == nil {
		openIn = x.factory.Open
	}
	e, err := openIn(dir)
	if err != nil {
		x.Fatalf("open checkpoint: %v", err)
	}
	x.Cleanup(func() { _ = e.Close() })
	return e
}

// write writes the batch that build fills.
func (x *fixture) write(build func(b *storage.Batch)) {
	x.Helper()
	var b storage.Batch
	build(&b)
	if err := x.engine.Write(&b, false); err != nil {
		x.Fatalf("Write: %v", err)
	}
}

func (x *fixture) put(s storage.Space, key, value string) {
	x.Helper()
	x.write(func(b *storage.Batch) { b.Put(s, []byte(key), []byte(value)) })
}

func (x *fixture) view() storage.View {
	x.Helper()
	v, err := x.engine.NewView()
	if err != nil {
		x.Fatalf("NewView: %v", err)
	}
	x.Cleanup(v.Close)
	return v
}

// wantGet checks that key has the value, by Get.
func (x *fixture) wantGet(r storage.Reader, s storage.Space, key, want string) {
	x.Helper()
	got, found, err := r.Get(s, []byte(key))
	switch {
	case err != nil:
		x.Fatalf("Get(%v, %s): %v", s, show([]byte(key)), err)
	case !found:
		x.Fatalf("Get(%v, %s): not found, want %s", s, show([]byte(key)), show([]byte(want)))
	case got == nil:
		x.Fatalf("Get(%v, %s): the value of a present key is nil", s, show([]byte(key)))
	case string(got) != want:
		x.Fatalf("Get(%v, %s) = %s, want %s", s, show([]byte(key)), show(got), show([]byte(want)))
	}
}

// wantAbsent checks that key is not there, by Get and MultiGet.
func (x *fixture) wantAbsent(r storage.Reader, s storage.Space, key string) {
	x.Helper()
	got, found, err := r.Get(s, []byte(key))
	if err != nil || found || got != nil {
		x.Fatalf("Get(%v, %s) = %s, %v, %v; want absent", s, show([]byte(key)), show(got), found, err)
	}
	many, err := r.MultiGet(s, [][]byte{[]byte(key)})
	if err != nil || len(many) != 1 || many[0] != nil {
		x.Fatalf("MultiGet(%v, %s) = %q, %v; want absent", s, show([]byte(key)), many, err)
	}
}

// pair is a key with its value, as strings for easy comparison.
type pair struct{ key, value string }

// walk collects what an iterator yields.
func (x *fixture) walk(r storage.Reader, s storage.Space, rng storage.Range) []pair {
	x.Helper()
	it := r.Iterate(s, rng)
	defer it.Close()
	var got []pair
	for it.Next() {
		p := pair{key: string(it.Key())}
		if !rng.KeysOnly {
			p.value = string(it.Value())
		}
		got = append(got, p)
	}
	if err := it.Err(); err != nil {
		x.Fatalf("iterate %v %+v: %v", s, rng, err)
	}
	return got
}

// wantWalk checks what an iterator yields.
func (x *fixture) wantWalk(r storage.Reader, s storage.Space, rng storage.Range, want []pair) {
	x.Helper()
	diffPairs(x, fmt.Sprintf("iterate %v from %s to %s reverse=%v", s, show(rng.Start), show(rng.End), rng.Reverse),
		x.walk(r, s, rng), want)
}

// wantSame checks that two readers hold the same in every space.
func (x *fixture) wantSame(what string, got, want storage.Reader) {
	x.Helper()
	for s := range storage.Space(storage.Spaces) {
		diffPairs(x, fmt.Sprintf("%s: space %v", what, s),
			x.walk(got, s, storage.Range{}), x.walk(want, s, storage.Range{}))
	}
}

// diffPairs fails the test at the first pair that differs.
func diffPairs(t T, what string, got, want []pair) {
	t.Helper()
	for i := 0; i < len(got) || i < len(want); i++ {
		switch {
		case i >= len(got):
			t.Fatalf("%s: ends after %d pairs, want %d; missing %s", what, len(got), len(want), want[i])
		case i >= len(want):
			t.Fatalf("%s: %d pairs, want %d; too much is %s", what, len(got), len(want), got[i])
		case got[i] != want[i]:
			t.Fatalf("%s: pair %d is %s, want %s", what, i, got[i], want[i])
		}
	}
}

func (p pair) String() string { return show([]byte(p.key)) + "=" + show([]byte(p.value)) }

// show prints a byte string, the long ones cut.
func show(p []byte) string {
	const most = 40
	switch {
	case p == nil:
		return "nil"
	case len(p) > most:
		return fmt.Sprintf("%q... (%d bytes)", p[:most], len(p))
	default:
		return fmt.Sprintf("%q", p)
	}
}

// pattern is a value of n bytes that is different for each seed and does not
// compress to nothing.
func pattern(seed uint64, n int) []byte {
	p := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 0x2545f4914f6cdd1d
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x >> 24)
	}
	return p
}

func repeat(c byte, n int) string { return string(bytes.Repeat([]byte{c}, n)) }
