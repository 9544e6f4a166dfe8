package fsm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/command"
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
	if got := len(dump(t, x.engine, storage.Changelog)); got != 2 {
		t.Errorf("%d change records, want 2", got)
	}
}

func TestDataRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "key")
		value := rapid.SliceOf(rapid.Byte()).Draw(t, "value")
		expireTS := rapid.Uint64().Draw(t, "expireTS")
		var b storage.Batch
		putData(&b, key, value, expireTS)
		err := b.Each(func(op storage.Op) error {
			got, ts, err := splitData(op.Value)
			if err != nil || string(got) != string(value) || ts != expireTS || string(op.Key) != string(key) {
				t.Fatalf("%q: %q at %d, %v", op.Key, got, ts, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestSplitDataRefusesCorruption(t *testing.T) {
	for _, bad := range []string{"", "\x02value", "\xff", "\x01", "\x01\x00\x00\x00\x00\x00\x00\x00"} {
		if _, _, err := splitData([]byte(bad)); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestStateRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		field := rapid.Uint64()
		s := state{
			applied:  field.Draw(t, "applied"),
			clock:    kv.Clock(field.Draw(t, "clock")),
			expiring: field.Draw(t, "expiring"),
			logged:   field.Draw(t, "logged"),
			expired:  field.Draw(t, "expired"),
			paused:   rapid.Bool().Draw(t, "paused"),
			epoch: command.Epoch{
				ID:    field.Draw(t, "epoch"),
				Term:  field.Draw(t, "term"),
				Owner: field.Draw(t, "owner"),
				Nonce: field.Draw(t, "nonce"),
				Ended: rapid.Bool().Draw(t, "ended"),
			},
		}
		length := rapid.Custom(func(t *rapid.T) time.Duration {
			return rapid.SampledFrom([]time.Duration{0, 1, command.UnstatedLease, time.Hour}).Draw(t, "length")
		})
		if s.epoch.ID != 0 {
			s.epoch.Lease, s.epoch.Earlier = length.Draw(t, "lease"), length.Draw(t, "earlier")
		}
		if s.sealed.promotion = rapid.String().Draw(t, "sealed for"); s.sealed.promotion != "" {
			s.sealed.at = field.Draw(t, "sealed at")
		}
		raw := s.append(nil)
		if got, err := decodeState(raw); err != nil || got != s {
			t.Fatalf("decoded %+v, %v; want %+v", got, err, s)
		}
		for n := range len(raw) - len(s.sealed.promotion) {
			if _, err := decodeState(raw[:n]); !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("cut to %d bytes of %x: %v", n, raw, err)
			}
		}
	})
	for _, bad := range []string{
		"\x00" + strings.Repeat("\x00", 18), "\x02" + strings.Repeat("\x00", 18), "\x02" + strings.Repeat("\x00", 21),
		"\x02" + strings.Repeat("\x00", 18) + strings.Repeat("\xff", 9) + "\x01\x00",
		"\x02" + strings.Repeat("\x00", 18), "\x01" + strings.Repeat("\x00", 19), "\x03" + strings.Repeat("\x00", 21),
		"\x01\x00\x00\x00\x00\x00\x02" + strings.Repeat("\x00", 12), "\x01\x00\x00\x00\x00\x00\x00\x02" + strings.Repeat("\x00", 11),
	} {
		if _, err := decodeState([]byte(bad)); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestStateRecordOfAnOlderRelease: an epoch that was recorded without the length of its
// leases counts as one of the longest that its release took.
func TestStateRecordOfAnOlderRelease(t *testing.T) {
	old := "\x01\x07\x00\x00\x00\x00\x00\x00\x03\x02\x01" + strings.Repeat("\x00", 7) + "\x09"
	want := state{applied: 7, epoch: command.Epoch{ID: 3, Term: 2, Owner: 1, Nonce: 9, Lease: command.UnstatedLease}}
	got, err := decodeState([]byte(old))
	if err != nil || got != want {
		t.Errorf("decoded %+v, %v; want %+v", got, err, want)
	}
	if raw := got.append(nil); string(raw) != old {
		t.Errorf("written again as %x, which that release cannot read", raw)
	}
}

func TestIdentityRecord(t *testing.T) {
	id := Identity{Cluster: kv.NewID(), History: kv.NewID()}
	if len(id.Cluster) != 32 || id.Cluster == id.History {
		t.Fatalf("ids %+v", id)
	}
	got, err := decodeIdentity(id.append(nil))
	if err != nil || got != id {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	for _, bad := range []string{"", "1", "0\na\nb\n", "1\n\nb\n", "1\na\n\n", "1\na\nb", "1\na\nb\nc"} {
		if _, err := decodeIdentity([]byte(bad)); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A damaged engine is refused when the machine is opened, by name.
func TestNewRefusesCorruption(t *testing.T) {
	cases := []struct {
		name   string
		damage func(*storage.Batch)
	}{
		{"no identity", func(b *storage.Batch) { b.Delete(storage.Meta, keyIdentity) }},
		{"bad identity", func(b *storage.Batch) { b.Put(storage.Meta, keyIdentity, []byte("?")) }},
		{"no state", func(b *storage.Batch) { b.Delete(storage.Meta, keyState) }},
		{"bad state", func(b *storage.Batch) { b.Put(storage.Meta, keyState, []byte{1}) }},
		{"bad floor", func(b *storage.Batch) { b.Put(storage.Meta, keyFloor, []byte{9}) }},
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
	_, err = x.m.Expiring(^kv.Clock(0), 10)
	check("Expiring", err)
	_, err = x.m.Changes(1, 0, 1<<20)
	check("Changes", err)
}
