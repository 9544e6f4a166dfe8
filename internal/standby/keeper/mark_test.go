package keeper

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// fakeEveryone is which nodes a test has be silent, or back.
type fakeEveryone struct {
	mu           sync.Mutex
	silent, back []string
}

func (f *fakeEveryone) set(silent, back []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent, f.back = silent, back
}

func (f *fakeEveryone) Silent(time.Duration) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.silent)
}

func (f *fakeEveryone) Returned(down []string, _ kv.Index) (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.back {
		if slices.Contains(down, a) {
			out = append(out, a)
		}
	}
	return out
}

// atLevelAll is a keeper whose answers wait for all nodes. One slave stands by.
func atLevelAll(t *testing.T) (*fakeEveryone, *bench) {
	nodes := new(fakeEveryone)
	b := benchWith(t, nodes, Options{Level: kv.AckAll, Timeout: timeout}, "0")
	b.confirm(b.logs[0], slave("a", ""), 1)
	b.run()
	time.Sleep(timeout)
	b.wants("a stands", "0 all a:coming", "0 all a:standing")
	return nodes, b
}

// TestSilentNodesAreMarkedAsDown in the log, once, until they are back. The standing slave stays.
func TestSilentNodesAreMarkedAsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, b := atLevelAll(t)
		defer b.stop()
		nodes.set([]string{"m2:1", "m3:1"}, nil)
		time.Sleep(timeout)
		b.wants("silent", "0 all a:standing")
		if got := b.logs[0].Down(); !slices.Equal(got, []string{"m2:1", "m3:1"}) {
			t.Errorf("down: %q", got)
		}
		nodes.set(nil, []string{"m2:1"})
		time.Sleep(timeout)
		b.wants("back", "0 all a:standing")
		if got := b.logs[0].Down(); !slices.Equal(got, []string{"m3:1"}) {
			t.Errorf("down: %q", got)
		}
	})
}

// TestMarksFitIntoARecord, however many nodes are silent: no member could read a longer one. Those
// that did not fit are marked once others are back.
func TestMarksFitIntoARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, b := atLevelAll(t)
		defer b.stop()
		var silent []string
		for i := range 1024 {
			silent = append(silent, fmt.Sprintf("%s-%d:1", strings.Repeat("s", 50), i))
		}
		nodes.set(silent, nil)
		time.Sleep(timeout)
		b.wants("silent", "0 all a:standing") // one entry, and not one with each look
		record, _ := b.logs[0].Standbys()
		down := b.logs[0].Down()
		if n := len(record); n > command.MaxStandbys || len(down) < 150 || !slices.Equal(down, silent[:len(down)]) {
			t.Fatalf("%d nodes are marked, in a record of %d bytes", len(down), n)
		}
		nodes.set(silent[100:], silent[:100])
		time.Sleep(timeout)
		b.wants("some are back", "0 all a:standing", "0 all a:standing")
		if got := b.logs[0].Down(); len(got) <= len(down)-100 || !slices.Equal(got, silent[100:100+len(got)]) {
			t.Errorf("%d nodes are marked, were %d: %q", len(got), len(down), got)
		}
	})
}
