package layout

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/storage"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

func TestDataRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "key")
		value := rapid.SliceOf(rapid.Byte()).Draw(t, "value")
		expireTS := rapid.Uint64().Draw(t, "expireTS")
		var b storage.Batch
		PutData(&b, key, value, expireTS)
		err := b.Each(func(op storage.Op) error {
			got, ts, err := SplitData(op.Value)
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
		if _, _, err := SplitData([]byte(bad)); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzRecords feeds the decoders of everything that a machine stores.
func FuzzRecords(f *testing.F) {
	f.Add((&State{Applied: 1, Clock: 1000, Paused: true}).Append(nil))
	f.Add(history.Identity{Cluster: "c", History: "h"}.Append(nil))
	f.Add([]byte{headerExpires, 0, 0, 0, 0, 0, 0, 0, 1, 'v'})
	f.Fuzz(func(t *testing.T, p []byte) {
		check := func(err error) {
			if err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNewer) {
				t.Errorf("error is neither ErrCorrupt nor ErrNewer: %v", err)
			}
		}
		_, err := decodeState(p)
		check(err)
		_, _, err = SplitData(p)
		check(err)
		id, err := history.DecodeIdentity(p)
		check(err)
		if err == nil && !bytes.Equal(id.Append(nil), p) {
			t.Errorf("identity %q decodes to %+v", p, id)
		}
	})
}
