package layout

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

func TestStateRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		field := rapid.Uint64()
		s := State{
			Applied:  field.Draw(t, "applied"),
			Clock:    kv.Clock(field.Draw(t, "clock")),
			Expiring: field.Draw(t, "expiring"),
			Logged:   field.Draw(t, "logged"),
			Expired:  field.Draw(t, "expired"),
			Paused:   rapid.Bool().Draw(t, "paused"),
			Epoch: command.Epoch{
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
		if s.Epoch.ID != 0 {
			s.Epoch.Lease, s.Epoch.Earlier = length.Draw(t, "lease"), length.Draw(t, "earlier")
		}
		if s.Sealed.Promotion = rapid.String().Draw(t, "sealed for"); s.Sealed.Promotion != "" {
			s.Sealed.At = field.Draw(t, "sealed at")
		}
		raw := s.Append(nil)
		if got, err := decodeState(raw); err != nil || got != s {
			t.Fatalf("decoded %+v, %v; want %+v", got, err, s)
		}
		for n := range len(raw) - len(s.Sealed.Promotion) {
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
	want := State{Applied: 7, Epoch: command.Epoch{ID: 3, Term: 2, Owner: 1, Nonce: 9, Lease: command.UnstatedLease}}
	got, err := decodeState([]byte(old))
	if err != nil || got != want {
		t.Errorf("decoded %+v, %v; want %+v", got, err, want)
	}
	if raw := got.Append(nil); string(raw) != old {
		t.Errorf("written again as %x, which that release cannot read", raw)
	}
}
