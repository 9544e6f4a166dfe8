package master

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
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

// TestMutationsFitAMessage: what is admitted as one mutation goes to slaves in one message,
// and so is bounded by its size there, even if that is all overhead. Package replication
// tests that a message is no larger.
func TestMutationsFitAMessage(t *testing.T) {
	l := Limits{Key: 64, Value: 1 << 10, Batch: 32 << 10, Response: 64 << 10}
	for name, c := range map[string]struct {
		puts, key, value int
		admitted         bool
	}{
		"small":                   {1, 1, 0, true},
		"as many as fit":          {64 << 10 / 36, 4, 0, true},
		"many of next to nothing": {64<<10/36 + 1, 4, 0, false},
		"few that are large":      {32, 4, 1020, true},
		"too large":               {32, 4, 1021, false},
	} {
		t.Run(name, func(t *testing.T) {
			ms := make([]kv.Mutation, c.puts)
			for i := range ms {
				ms[i] = kv.Mutation{Key: make([]byte, c.key), Value: make([]byte, c.value), ExpireTS: math.MaxUint64, Delete: rand.N(2) == 0}
			}
			err := l.checkBatch(ms)
			if (err == nil) != c.admitted || err != nil && kv.KindOf(err) != kv.Invalid {
				t.Errorf("%v", err)
			}
			if size := changelog.MessageBytes(ms); err == nil && size > l.Response {
				t.Errorf("it comes to %d bytes", size)
			}
		})
	}
}

// TestMemoryOfACall: a call that may find much counts.
func TestMemoryOfACall(t *testing.T) {
	for name, c := range map[string]struct {
		req  any
		want int64
	}{
		"get":      {&serverpb.GetRequest{}, 0},
		"multiget": {&serverpb.MultiGetRequest{Keys: make([][]byte, 3)}, 3 << 10},
	} {
		if got := limits.Memory("", c.req); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}
