package enginetest

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// quickRapid keeps rapid from shrinking and saving failures that are wanted,
// and makes it find the same ones each time.
func quickRapid(t *testing.T) {
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s", "rapid.seed": "1"} {
		old := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, old) })
	}
}

// failing runs every check on an engine and returns the names of those that
// fail.
func failing(t *testing.T, f Factory) []string {
	var names []string
	for _, c := range checks() {
		if r := record(t, c, f); r.Failed() {
			names = append(names, c.name)
		}
	}
	return names
}

func TestSoundEnginesPass(t *testing.T) {
	quickRapid(t)
	if got := failing(t, volatileFactory(faults{})); got != nil {
		t.Errorf("a sound volatile engine fails %v", got)
	}
	// The durable fake takes no lock and has no tables of its own.
	got := failing(t, durableFactory(openCheckpoint))
	if want := []string{"SecondOpenIsRefused", "Stats"}; !slices.Equal(got, want) {
		t.Errorf("a sound durable engine fails %v, want %v", got, want)
	}
}

// TestBrokenEnginesFail is the proof that the suite can fail: each fault is
// found by the checks that are there for it.
func TestBrokenEnginesFail(t *testing.T) {
	quickRapid(t)
	cases := map[string]struct {
		faults faults
		found  []string // by each of these
	}{
		"loses the last mutation":     {faults{losesLastOp: true}, []string{"BatchOrder", "RandomOperations"}},
		"splits batches":              {faults{splitsBatches: true}, []string{"BatchesAreAtomic"}},
		"reverses batches":            {faults{reversesBatches: true}, []string{"BatchOrder", "DeleteRangeOrder", "RandomOperations"}},
		"ignores a range's end":       {faults{ignoresEnd: true}, []string{"IterateBounds", "IteratePrefix", "RandomOperations"}},
		"includes a range's end":      {faults{includesEnd: true}, []string{"IterateBounds"}},
		"excludes a range's start":    {faults{excludesStart: true}, []string{"IterateBounds"}},
		"ignores the direction":       {faults{ignoresReverse: true}, []string{"IterateBounds", "SpacesAreIsolated", "RandomOperations"}},
		"range delete takes the end":  {faults{deletesEnd: true}, []string{"DeleteRange"}},
		"range delete does nothing":   {faults{ignoresRangeDelete: true}, []string{"DeleteRange", "ManyOperationsInOneBatch"}},
		"mixes spaces":                {faults{mixesSpaces: true}, []string{"SpacesAreIsolated", "RandomOperations"}},
		"views see later writes":      {faults{liveViews: true}, []string{"ViewIsPinned", "SeveralViews", "RandomOperations"}},
		"iterators see later writes":  {faults{liveIterators: true}, []string{"IterateWhileWriting"}},
		"nil for an empty value":      {faults{nilForEmpty: true}, []string{"EmptyValue"}},
		"returns its own memory":      {faults{sharedMemory: true}, []string{"ResultsBelongToTheCaller"}},
		"MultiGet in the wrong order": {faults{sortsMultiGet: true}, []string{"MultiGet"}},
		"MultiGet of any size":        {faults{readsAll: true}, []string{"MultiGetIsBounded"}},
		"cuts large values":           {faults{losesLargeValues: true}, []string{"LargeKeysAndValues", "LargeValueReplaced"}},
		"serves when closed":          {faults{servesWhenClosed: true}, []string{"Close"}},
		"checkpoints nothing":         {faults{emptyCheckpoint: true}, []string{"Checkpoint", "CheckpointWhileWriting"}},
		"overwrites a directory":      {faults{lateCheckpoint: true}, []string{"Checkpoint"}},
		"has no statistics":           {faults{noStats: true}, []string{"Stats"}},
		"loads over data":             {loadFault(loadFaults{loadsOverData: true}), []string{"LoadNeedsAnEmptyEngine"}},
		"loads in any order":          {loadFault(loadFaults{ignoresLoadOrder: true}), []string{"LoadOrder"}},
		"loses the end of a load":     {loadFault(loadFaults{losesLoadedBatch: true}), []string{"Load"}},
		"loads one space":             {loadFault(loadFaults{losesLoadedSpace: true}), []string{"Load"}},
		"goes on with a lost load":    {loadFault(loadFaults{loadGoesOn: true}), []string{"LoadOrder", "LoadOfNothing"}},
		"loads when closed":           {loadFault(loadFaults{loadIgnoresClose: true}), []string{"LoadCutShort"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, check := range checks() {
				if slices.Contains(c.found, check.name) && !record(t, check, volatileFactory(c.faults)).Failed() {
					t.Errorf("%s does not find it", check.name)
				}
			}
		})
	}
}

// TestBrokenDurableEnginesFail does the same with engines that are closed and
// opened again.
func TestBrokenDurableEnginesFail(t *testing.T) {
	quickRapid(t)
	forgets := durableFactory(func(string) (Engine, error) { return memory.Open(memory.Options{}) })
	wantFailing(t, forgets, "Reopen", "CorruptTables", "RandomOperations")

	ignoresDamage := durableFactory(func(dir string) (Engine, error) {
		e, err := openCheckpoint(dir)
		if errors.Is(err, storage.ErrCorrupt) {
			return memory.Open(memory.Options{})
		}
		return e, err
	})
	wantFailing(t, ignoresDamage, "CorruptTables")

	namesDamageWrongly := durableFactory(func(dir string) (Engine, error) {
		e, err := openCheckpoint(dir)
		if err != nil {
			return nil, errors.New("something is wrong")
		}
		return e, nil
	})
	wantFailing(t, namesDamageWrongly, "CorruptTables")
}

func wantFailing(t *testing.T, f Factory, names ...string) {
	t.Helper()
	for _, c := range checks() {
		if slices.Contains(names, c.name) && !record(t, c, f).Failed() {
			t.Errorf("%s does not find it", c.name)
		}
	}
}

// TestCheckAfterCrash gives the check of the crash test states that no sound
// engine is left in.
func TestCheckAfterCrash(t *testing.T) {
	write := func(t *testing.T, from, to uint64, spoil func(n uint64, b *storage.Batch)) Engine {
		e, err := memory.Open(memory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var b storage.Batch
		for n := from; n <= to; n++ {
			fillBatch(&b, n)
			if spoil != nil {
				spoil(n, &b)
			}
			if err := e.Write(&b, true); err != nil {
				t.Fatal(err)
			}
		}
		return e
	}
	at := func(when uint64, do func(b *storage.Batch)) func(uint64, *storage.Batch) {
		return func(n uint64, b *storage.Batch) {
			if n == when {
				do(b)
			}
		}
	}
	cases := map[string]struct {
		engine func(t *testing.T) Engine
		want   string // what the failure says; "" for none
	}{
		"sound":             {func(t *testing.T) Engine { return write(t, 1, 30, nil) }, ""},
		"ahead":             {func(t *testing.T) Engine { return write(t, 1, 31, nil) }, ""},
		"lost the last one": {func(t *testing.T) Engine { return write(t, 1, 29, nil) }, "was acknowledged"},
		"lost everything":   {func(t *testing.T) Engine { return write(t, 1, 0, nil) }, "was acknowledged"},
		"lost an early one": {func(t *testing.T) Engine { return write(t, 2, 30, nil) }, "pair 0"},
		"lost a key of the last": {func(t *testing.T) Engine {
			return write(t, 1, 30, at(30, func(b *storage.Batch) { b.Delete(storage.Data, keyOf(30, 2)) }))
		}, "pair"},
		"part of an unfinished one": {func(t *testing.T) Engine {
			return write(t, 1, 30, at(30, func(b *storage.Batch) { b.Put(storage.Data, keyOf(31, 0), nil) }))
		}, "too much"},
		"lost a range delete": {func(t *testing.T) Engine {
			return write(t, 1, 30, at(30, func(b *storage.Batch) { b.Put(storage.Changelog, keyOf(10, 0), valueOf(10, 0)) }))
		}, "changelog"},
		"changed a value": {func(t *testing.T) Engine {
			return write(t, 1, 30, at(30, func(b *storage.Batch) { b.Put(storage.Data, keyOf(7, 1), []byte("x")) }))
		}, "pair"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := c.engine(t)
			f := Factory{Open: func(string) (Engine, error) { return e, nil }}
			r := record(t, check{name, func(t T, f Factory) { checkAfterCrash(t, f, "", 30) }}, f)
			if r.Failed() != (c.want != "") {
				t.Fatalf("failures: %q", r.failures)
			}
			if r.Failed() && !strings.Contains(fmt.Sprint(r.failures), c.want) {
				t.Errorf("failures %q, want one about %q", r.failures, c.want)
			}
		})
	}
}
