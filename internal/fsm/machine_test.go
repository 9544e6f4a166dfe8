package fsm

import (
	"errors"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// What stands on disk must be read for ever: these bytes must not change.
func TestLayout(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "v"), putUntil("b", "w", 256)), as(increment("c", 1), 9, 1, 0), pause(true))
	want := map[storage.Space][]pair{
		storage.Data: {
			{"a", "\x00v"},
			{"b", "\x01\x00\x00\x00\x00\x65\x53\xf2\x00w"},
			{"c", "\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
		},
		storage.Expiry: {{"\x00\x00\x00\x00\x65\x53\xf2\x00b", ""}},
		storage.Meta: {
			{"identity", "1\n" + x.m.Identity().Cluster + "\n" + x.m.Identity().History + "\n"},
			{"request/\x00\x00\x00\x00\x00\x00\x00\x02", "\x01\x09\x00\x00\x00\x00\x00\x00\x00\x01\x00\x80\xd0\x95\xff\xbc\x31\xe2\x10u\xabX\xb4s\x19\x01\x00\x02\x02"},
			{"session/\x00\x00\x00\x00\x00\x00\x00\x09", "\x01" + strings.Repeat("\x00", 23) + "\x02\x00\x00\x01\x8b\xcf\xe5\x68\x00" + strings.Repeat("\x00", 8)},
			{"state", "\x01\x03\x80\xd0\x95\xff\xbc\x31\x01\x2d\x00\x01" + strings.Repeat("\x00", 12)},
		},
	}
	for space, pairs := range want {
		if got := dump(t, x.engine, space); !samePairs(got, pairs) {
			t.Errorf("%v holds\n%q, want\n%q", space, got, pairs)
		}
	}
	if got := dump(t, x.engine, storage.Changelog); len(got) != 1 || got[0].Key != string(changelog.Key(2)) {
		t.Errorf("change records %q, want one with both changes", got)
	}
}

// A damaged engine is refused when the machine is opened, by name.
func TestNewRefusesCorruption(t *testing.T) {
	cases := []struct {
		name   string
		damage func(*storage.Batch)
	}{
		{"no identity", func(b *storage.Batch) { b.Delete(storage.Meta, layout.KeyIdentity) }},
		{"bad identity", func(b *storage.Batch) { b.Put(storage.Meta, layout.KeyIdentity, []byte("?")) }},
		{"no state", func(b *storage.Batch) { b.Delete(storage.Meta, layout.KeyState) }},
		{"bad state", func(b *storage.Batch) { b.Put(storage.Meta, layout.KeyState, []byte{1}) }},
		{"bad floor", func(b *storage.Batch) { b.Put(storage.Meta, layout.KeyFloor, []byte{9}) }},
		{"bad lineage", func(b *storage.Batch) { b.Put(storage.Meta, layout.KeyLineage, []byte("a x")) }},
		{"bad request", func(b *storage.Batch) { b.Put(storage.Meta, []byte("request/12345678"), []byte{1}) }},
		{"bad session", func(b *storage.Batch) { b.Put(storage.Meta, []byte("session/12345678"), []byte{1}) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			x.apply(as(write(put("a", "1")), 7, 1, 0))
			var b storage.Batch
			c.damage(&b)
			if err := x.engine.Write(&b, false); err != nil {
				t.Fatal(err)
			}
			if _, err := New(x.engine); !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("New: %v", err)
			}
		})
	}
}

func TestNewRefusesRemains(t *testing.T) {
	for space := range storage.Space(storage.Spaces) {
		e := openMemory(t)
		var b storage.Batch
		b.Put(space, []byte("left behind"))
		if err := e.Write(&b, false); err != nil {
			t.Fatal(err)
		}
		if _, err := New(e); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("a key in %v and no identity: %v", space, err)
		}
	}
}

// Damaged values are reported, never served.
func TestReadsReportCorruption(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1"), putUntil("t", "1", 1)))
	var b storage.Batch
	b.Put(storage.Data, []byte("a"), []byte{7})
	b.Put(storage.Expiry, []byte("\x00"))
	b.Put(storage.Changelog, []byte("short"), []byte{1})
	if err := x.engine.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := x.m.Get([]byte("a"), 0)
	check("Get", err)
	_, err = x.m.MultiGet([][]byte{[]byte("t"), []byte("a")}, 0)
	check("MultiGet", err)
	v, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	it := v.Iterate(storage.Range{}, 0)
	defer it.Close()
	for it.Next() {
		t.Errorf("served %q after corruption", it.Pair().Key)
	}
	check("Iterate", it.Err())
	_, _, err = x.m.Expiring(^kv.Clock(0), 10)
	check("Expiring", err)
	_, err = x.m.Changes(1, 0, 1<<20)
	check("Changes", err)
}

// wantNewer fails unless an error says that a newer release wrote what was read, and not
// that it is damaged.
func wantNewer(t *testing.T, err error, says string) {
	t.Helper()
	if !errors.Is(err, storage.ErrNewer) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, chunks.ErrBadSnapshot) {
		t.Errorf("error %v", err)
	}
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("error %q does not say %q", err, says)
	}
}

// Records of a newer release are no damage: the error says which release reads them.
func TestNewerRecords(t *testing.T) {
	for name, c := range map[string]struct{ key, value, says string }{
		"state":    {"state", "\x04what a newer release writes", "the state record has format 4, and this release reads up to 3"},
		"identity": {"identity", "2\ncluster\nhistory\nregion\n", "the identity record has format 2, and this release reads up to 1"},
		"request": {"request/\x00\x00\x00\x00\x00\x00\x00\x02", "\x02what a newer release writes",
			"a request record has format 2, and this release reads up to 1"},
		"session": {"session/\x00\x00\x00\x00\x00\x00\x00\x09", "\x02what a newer release writes", "has format 2, and this release reads up to 1"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			var b storage.Batch
			b.Put(storage.Meta, []byte(c.key), []byte(c.value))
			if err := x.engine.Write(&b, true); err != nil {
				t.Fatal(err)
			}
			_, err := New(x.engine)
			wantNewer(t, err, c.says)
		})
	}
}
