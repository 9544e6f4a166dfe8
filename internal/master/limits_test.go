package master

import (
	"bytes"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// FuzzIterateRange: whatever a client asks for, the range lies within the
// prefix, and holds the start.
func FuzzIterateRange(f *testing.F) {
	f.Add([]byte("a"), []byte("ab"), []byte("abc"), false)
	f.Add([]byte("\xff"), []byte("\xff\xff"), []byte("\xff\xff\x00"), true)
	f.Add([]byte(nil), []byte(nil), []byte("x"), true)
	f.Fuzz(func(t *testing.T, prefix, start, key []byte, reverse bool) {
		if err := checkStart(prefix, start); err != nil {
			if kv.KindOf(err) != kv.Invalid || len(start) == 0 || bytes.HasPrefix(start, prefix) {
				t.Fatalf("%q from %q: %v", prefix, start, err)
			}
			return
		}
		r := iterateRange(&serverpb.IterateRequest{KeyPrefix: prefix, StartKey: start, Reverse: reverse})
		want := bytes.HasPrefix(key, prefix)
		if len(start) > 0 {
			c := bytes.Compare(key, start)
			want = want && (c == 0 || (c > 0) != reverse)
			if !r.Contains(start) {
				t.Errorf("%q from %q leaves out its start", prefix, start)
			}
		}
		if r.Contains(key) != want || r.Reverse != reverse {
			t.Errorf("%q from %q contains %q: %v", prefix, start, key, !want)
		}
	})
}

// FuzzRequestID: what is admitted keeps the order of sequences.
func FuzzRequestID(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint64(1))
	f.Add(uint64(0), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, client, sequence, acked uint64) {
		id, err := requestID(&serverpb.RequestID{ClientId: client, Sequence: sequence, Acked: acked})
		switch {
		case err != nil:
			if kv.KindOf(err) != kv.Invalid {
				t.Errorf("%v", err)
			}
		case client == 0:
			if !id.IsZero() || sequence != 0 || acked != 0 {
				t.Errorf("%+v", id)
			}
		case id != (kv.RequestID{Client: client, Sequence: sequence, Acked: acked}) || acked >= sequence:
			t.Errorf("%+v", id)
		}
	})
}
