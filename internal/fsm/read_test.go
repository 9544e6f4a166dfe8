package fsm

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

func keysOf(keys ...string) [][]byte {
	var out [][]byte
	for _, k := range keys {
		out = append(out, []byte(k))
	}
	return out
}

func pairKeys(pairs []kv.Pair) []string {
	var out []string
	for _, p := range pairs {
		out = append(out, string(p.Key))
	}
	return out
}

func TestGet(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1"), put("e", ""), putUntil("t", "2", 5)))
	p, found, err := x.m.Get([]byte("t"), start)
	if err != nil || !found || string(p.Key) != "t" || string(p.Value) != "2" || p.ExpireTS != sec(5) {
		t.Fatalf("%+v, %v, %v", p, found, err)
	}
	p, found, err = x.m.Get([]byte("e"), start)
	if err != nil || !found || p.Value == nil || len(p.Value) != 0 || p.ExpireTS != 0 {
		t.Fatalf("the empty value: %+v, %v, %v", p, found, err)
	}
	if _, found, err := x.m.Get([]byte("absent"), start); err != nil || found {
		t.Fatalf("found is %v, %v", found, err)
	}
	// The reader's clock hides at once, whatever the log's says.
	if _, found, err := x.m.Get([]byte("t"), start+clockOf(5)); err != nil || found {
		t.Fatalf("the expired key: found is %v, %v", found, err)
	}
}

func TestMultiGet(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1"), put("b", ""), putUntil("t", "2", 5)))
	keys := keysOf("t", "absent", "b", "a", "b")
	for now, want := range map[kv.Clock][]string{
		start:              {"t", "b", "a", "b"},
		start + clockOf(5): {"b", "a", "b"},
	} {
		pairs, err := x.m.MultiGet(keys, now)
		if err != nil || !slices.Equal(pairKeys(pairs), want) {
			t.Errorf("at %d: %q, %v; want %q", now, pairKeys(pairs), err, want)
		}
	}
	if pairs, err := x.m.MultiGet(nil, start); err != nil || len(pairs) != 0 {
		t.Errorf("no keys: %v, %v", pairs, err)
	}
	v, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	x.apply(write(del("a"), put("b", "later")))
	pairs, err := v.MultiGet(keys, start)
	if err != nil || !slices.Equal(pairKeys(pairs), []string{"t", "b", "a", "b"}) || len(pairs[1].Value) != 0 {
		t.Errorf("the view: %+v, %v", pairs, err)
	}
}

func TestIterate(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a1", ""), putUntil("a2", "", 5), put("a3", ""), put("b", "")))
	v, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	x.apply(write(put("a4", ""), del("a1")))
	if v.Index() != 1 || v.Identity() != x.m.Identity() {
		t.Fatalf("view of %d, %+v", v.Index(), v.Identity())
	}
	for _, c := range []struct {
		r    storage.Range
		now  kv.Clock
		want []string
	}{
		{storage.Range{}, start, []string{"a1", "a2", "a3", "b"}},
		{storage.Range{}, start + clockOf(5), []string{"a1", "a3", "b"}},
		{storage.Prefix([]byte("a")), start, []string{"a1", "a2", "a3"}},
		{storage.Range{Start: []byte("a2"), Reverse: true}, start + clockOf(5), []string{"b", "a3"}},
		{storage.Prefix([]byte("c")), start, nil},
	} {
		it := v.Iterate(c.r, c.now)
		var got []string
		for it.Next() {
			got = append(got, string(it.Pair().Key))
		}
		it.Close()
		if err := it.Err(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%+v at %d: %q, %v; want %q", c.r, c.now, got, err, c.want)
		}
	}
}

func TestExpiring(t *testing.T) {
	x := newFixture(t)
	if due, _, err := x.m.Expiring(^kv.Clock(0), 10); err != nil || due != nil {
		t.Fatalf("nothing expires: %v, %v", due, err)
	}
	x.apply(write(putUntil("c", "1", 3), putUntil("a", "1", 3), putUntil("b", "1", 2), putUntil("z", "1", 100), put("p", "1")))
	for _, c := range []struct {
		now   kv.Clock
		limit int
		want  []string
	}{
		{start + clockOf(2) - 1, 10, nil},
		{start + clockOf(2), 10, []string{"b"}},
		{start + clockOf(3), 10, []string{"b", "a", "c"}},
		{start + clockOf(3), 2, []string{"b", "a"}},
		{start + clockOf(3), 0, nil},
	} {
		due, more, err := x.m.Expiring(c.now, c.limit)
		var got []string
		for _, m := range due {
			got = append(got, string(m.Key))
			if !m.Delete || m.ExpireTS == 0 {
				t.Errorf("mutation %+v", m)
			}
		}
		if err != nil || !slices.Equal(got, c.want) || more != (len(due) == c.limit) {
			t.Errorf("at %d, at most %d: %q, more %v, %v; want %q", c.now, c.limit, got, more, err, c.want)
		}
	}
	// What it returns is what a command takes; then nothing is due any more.
	x.clock = start + clockOf(3)
	due, _, err := x.m.Expiring(x.clock, 10)
	if err != nil {
		t.Fatal(err)
	}
	res := x.one(command.OK, command.Command{Kind: command.Expire, Mutations: due})
	if got := x.effects(res.Index); !slices.Equal(got, []string{"-b", "-a", "-c"}) {
		t.Fatalf("effects %q", got)
	}
	if due, _, err := x.m.Expiring(x.clock, 10); err != nil || len(due) != 0 {
		t.Fatalf("still due: %v, %v", due, err)
	}
}

func TestChanges(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1")), write(del("absent")), write(putUntil("b", "2", 9), del("a")))
	ch, err := x.m.Changes(1, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if ch.Newest != 3 || ch.History != x.m.Identity().History || len(ch.Changes) != 2 {
		t.Fatalf("%+v", ch)
	}
	last := ch.Changes[1]
	if ch.Changes[0].Index != 1 || last.Index != 3 || last.Clock != start || len(last.Mutations) != 2 || last.Mutations[0].ExpireTS != sec(9) {
		t.Fatalf("%+v", ch.Changes)
	}
	if ch, err = x.m.Changes(1, 1, 1<<20); err != nil || len(ch.Changes) != 1 || ch.Newest != 3 {
		t.Fatalf("at most one: %+v, %v", ch, err)
	}
	if ch, err = x.m.Changes(1, 0, 1); err != nil || len(ch.Changes) != 1 {
		t.Fatalf("at most one byte: %+v, %v", ch, err)
	}
	if ch, err = x.m.Changes(4, 0, 1<<20); err != nil || len(ch.Changes) != 0 || ch.Newest != 3 {
		t.Fatalf("behind the end: %+v, %v", ch, err)
	}
	if _, err = x.m.Changes(0, 0, 1<<20); kv.KindOf(err) != kv.OutOfRange {
		t.Fatalf("from 0: %v", err)
	}
}

func TestAccessors(t *testing.T) {
	x := newFixture(t)
	id := x.m.Identity()
	if len(id.Cluster) != 32 || len(id.History) != 32 || x.m.Applied() != 0 || x.m.ChangelogFloor() != 1 || x.m.EngineKind() != "memory" {
		t.Fatalf("new machine: %+v, applied %d, floor %d, on %s", id, x.m.Applied(), x.m.ChangelogFloor(), x.m.EngineKind())
	}
	if n, err := x.m.ChangelogBytes(); err != nil || n != 0 {
		t.Fatalf("changelog of %d bytes, %v", n, err)
	}
	x.apply(write(put("a", "1")))
	if n, err := x.m.ChangelogBytes(); err != nil || n == 0 || n != x.m.state.Logged {
		t.Fatalf("changelog of %d bytes, %v, %d logged", n, err, x.m.state.Logged)
	}
	if n := x.m.Stats().EstimatedKeys; n != 1 {
		t.Fatalf("%d keys", n)
	}
	if err := x.m.Sync(); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if x.m.Identity() != id || x.m.Applied() != 1 {
		t.Fatalf("after a restart: %+v at %d", x.m.Identity(), x.m.Applied())
	}
}

// Checkpoint's copy is a machine of its own, at the same place.
func TestCheckpoint(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1"), putUntil("b", "2", 9)), as(increment("c", 1), 7, 1, 0))
	dir := filepath.Join(t.TempDir(), "copy")
	if err := x.m.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	want := hash(t, x.m)
	x.apply(write(del("a")))
	e, err := memory.Open(memory.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	copied := newMachine(t, e)
	checkInvariants(t, copied)
	if hash(t, copied) != want || copied.Identity() != x.m.Identity() {
		t.Errorf("the copy has the hash %+v, want %+v", hash(t, copied), want)
	}
	if ch, err := copied.Changes(1, 0, 1<<20); err != nil || len(ch.Changes) != 2 {
		t.Errorf("the copy has the changes %+v, %v", ch, err)
	}
}

func TestClosedMachineRefusesEverything(t *testing.T) {
	x := newFixture(t)
	x.apply(write(putUntil("a", "1", 1)))
	for range 2 {
		if err := x.m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, call := range map[string]func() error{
		"Apply":          func() error { return x.m.Apply([]Entry{{Index: 2}}, make([]command.Result, 1), false) },
		"Get":            func() error { _, _, err := x.m.Get([]byte("a"), 0); return err },
		"MultiGet":       func() error { _, err := x.m.MultiGet(keysOf("a"), 0); return err },
		"View":           func() error { _, err := x.m.View(); return err },
		"Expiring":       func() error { _, _, err := x.m.Expiring(^kv.Clock(0), 1); return err },
		"Changes":        func() error { _, err := x.m.Changes(1, 0, 1); return err },
		"ChangelogBytes": func() error { _, err := x.m.ChangelogBytes(); return err },
		"TrimChangelog":  func() error { _, err := x.m.TrimChangelog(keepNothing); return err },
		"Checkpoint":     func() error { return x.m.Checkpoint(filepath.Join(t.TempDir(), "copy")) },
		"Sync":           func() error { return x.m.Sync() },
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := x.m.Stats(); got != (storage.Stats{}) {
		t.Errorf("stats %+v", got)
	}
	if x.m.Applied() != 1 {
		t.Errorf("applied %d", x.m.Applied())
	}
}
