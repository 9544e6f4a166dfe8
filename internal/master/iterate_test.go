package master

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica/local"
)

func fill(r *rig, keys ...string) {
	r.T.Helper()
	for _, k := range keys {
		r.MustPut(k, "v"+k)
	}
}

func TestIterate(t *testing.T) {
	r := newRig(t)
	fill(r, "c", "a1", "b\xff\xff", "a", "a2", "b", "b\xff", "\xff", "\xff\xff", "\x00")
	for _, batched := range []bool{false, true} {
		req := func(prefix, start string) *serverpb.IterateRequest {
			return &serverpb.IterateRequest{KeyPrefix: []byte(prefix), StartKey: []byte(start), Batched: batched}
		}
		with := func(req *serverpb.IterateRequest, f func(*serverpb.IterateRequest)) *serverpb.IterateRequest {
			f(req)
			return req
		}
		reverse := func(req *serverpb.IterateRequest) { req.Reverse = true }
		limit := func(n uint64) func(*serverpb.IterateRequest) {
			return func(req *serverpb.IterateRequest) { req.Limit = n }
		}
		r.WantPairs(req("", ""), "\x00=v\x00", "a=va", "a1=va1", "a2=va2", "b=vb", "b\xff=vb\xff", "b\xff\xff=vb\xff\xff",
			"c=vc", "\xff=v\xff", "\xff\xff=v\xff\xff")
		r.WantPairs(req("a", ""), "a=va", "a1=va1", "a2=va2")
		r.WantPairs(req("a", "a1"), "a1=va1", "a2=va2")
		r.WantPairs(req("a", "a11"), "a2=va2")
		r.WantPairs(req("a", "a9"))
		r.WantPairs(req("b\xff", ""), "b\xff=vb\xff", "b\xff\xff=vb\xff\xff")
		r.WantPairs(req("\xff", ""), "\xff=v\xff", "\xff\xff=v\xff\xff")
		r.WantPairs(req("", "c"), "c=vc", "\xff=v\xff", "\xff\xff=v\xff\xff")
		r.WantPairs(req("x", ""))
		r.WantPairs(with(req("a", ""), reverse), "a2=va2", "a1=va1", "a=va")
		r.WantPairs(with(req("a", "a1"), reverse), "a1=va1", "a=va")
		r.WantPairs(with(req("", "a11"), reverse), "a1=va1", "a=va", "\x00=v\x00")
		r.WantPairs(with(req("\xff", ""), reverse), "\xff\xff=v\xff\xff", "\xff=v\xff")
		r.WantPairs(with(req("\xff", "\xff"), reverse), "\xff=v\xff")
		r.WantPairs(with(req("a", ""), limit(2)), "a=va", "a1=va1")
		r.WantPairs(with(req("a", ""), limit(3)), "a=va", "a1=va1", "a2=va2")
		r.WantPairs(with(req("a", ""), limit(99)), "a=va", "a1=va1", "a2=va2")
		r.WantPairs(with(with(req("a", ""), reverse), limit(1)), "a2=va2")
		r.WantPairs(with(req("a", ""), func(q *serverpb.IterateRequest) { q.KeysOnly = true }), "a=", "a1=", "a2=")
	}
}

func TestIterateRefuses(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		req  *serverpb.IterateRequest
		want string
	}{
		{&serverpb.IterateRequest{KeyPrefix: []byte("ab"), StartKey: []byte("a")}, `startKey "a" does not begin with keyPrefix "ab"`},
		{&serverpb.IterateRequest{KeyPrefix: []byte("ab"), StartKey: []byte("b\xff"), Reverse: true}, `startKey "b\xff" does not begin with keyPrefix "ab"`},
		{&serverpb.IterateRequest{ReadConsistency: 2}, "readConsistency 2 is unknown; use SEQUENTIAL (0) or LINEARIZABLE (1)"},
	} {
		_, err := r.Messages(c.req)
		mastertest.WantStatus(t, err, codes.InvalidArgument, c.want)
	}
}

func TestIterateHidesExpired(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1", mastertest.Epoch+10)
	r.MustPut("b", "2", mastertest.Epoch+20)
	r.MustPut("c", "3")
	ms, err := r.Messages(&serverpb.IterateRequest{Limit: 1})
	if err != nil || len(ms) != 1 || ms[0].GetExpireTS() != mastertest.Epoch+10 || ms[0].GetIndex() != 3 || ms[0].GetAge() != 0 {
		t.Errorf("%v, %v", ms, err)
	}
	r.Sleep(10)
	for _, keysOnly := range []bool{false, true} {
		for _, batched := range []bool{false, true} {
			ms, err := r.Messages(&serverpb.IterateRequest{KeysOnly: keysOnly, Batched: batched, Limit: 2})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range ms {
				if !batched {
					got = append(got, fmt.Sprint(string(m.GetKey()), m.GetExpireTS()))
				}
				for _, p := range m.GetPairs() {
					got = append(got, fmt.Sprint(string(p.GetKey()), p.GetExpireTS()))
				}
			}
			wantStrings(t, got, fmt.Sprint("b", mastertest.Epoch+20), "c0")
		}
	}
}

// TestIterateIsOneSnapshot writes while a stream is read: what comes is the
// state of its beginning.
func TestIterateIsOneSnapshot(t *testing.T) {
	for _, batched := range []bool{false, true} {
		r := newRig(t)
		const n = 1000 // far beyond what flow control lets the server run ahead
		value := strings.Repeat("v", 1000)
		for i := range n {
			r.MustPut(fmt.Sprintf("k%05d", i), value)
		}
		stream, err := r.Iterate(t.Context(), &serverpb.IterateRequest{Batched: batched})
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		r.MustPut(fmt.Sprintf("k%05d", n-1), "changed")
		r.MustPut(fmt.Sprintf("k%05d", n), "new")
		if _, err := r.Delete(t.Context(), &serverpb.DeleteRequest{Key: fmt.Appendf(nil, "k%05d", n-2)}); err != nil {
			t.Fatal(err)
		}
		got := 0
		for m := first; err == nil; m, err = stream.Recv() {
			if m.GetIndex() != n {
				t.Fatalf("message at index %d, want %d", m.GetIndex(), n)
			}
			if !batched {
				m.Pairs = []*serverpb.KVPair{{Key: m.GetKey(), Value: m.GetValue()}}
			}
			for _, p := range m.GetPairs() {
				if string(p.GetKey()) != fmt.Sprintf("k%05d", got) || string(p.GetValue()) != value {
					t.Fatalf("pair %d is %q, %d bytes", got, p.GetKey(), len(p.GetValue()))
				}
				got++
			}
		}
		if got != n {
			t.Errorf("%d pairs, want %d", got, n)
		}
	}
}

// TestBatches: messages of many pairs are neither tiny nor larger than a client
// that was told nothing accepts.
func TestBatches(t *testing.T) {
	const mib = 1 << 20
	r := newRig(t, func(_ *local.Options, l *Limits) { l.Value = 4 * mib })
	for i := range 1000 {
		r.MustPut(fmt.Sprintf("a%04d", i), strings.Repeat("v", 300))
	}
	r.MustPut("b", strings.Repeat("v", 4*mib-200)) // fits a message of 4 MiB, by itself
	r.MustPut("c", "v")
	ms, err := r.Messages(&serverpb.IterateRequest{Batched: true})
	if err != nil {
		t.Fatal(err)
	}
	pairs := 0
	for i, m := range ms {
		pairs += len(m.GetPairs())
		if size := proto.Size(m); size > batchBytes && len(m.GetPairs()) > 1 {
			t.Errorf("message %d has %d bytes in %d pairs", i, size, len(m.GetPairs()))
		}
		if len(m.GetKey()) > 0 || m.GetStatus() == nil {
			t.Errorf("message %d: %q", i, m.GetKey())
		}
	}
	if pairs != 1002 || len(ms) > 10 {
		t.Errorf("%d pairs in %d messages", pairs, len(ms))
	}
}

// given are pairs that are given.
type given struct {
	pairs []kv.Pair
	at    int
}

func (g *given) Next() bool    { g.at++; return g.at <= len(g.pairs) }
func (g *given) Pair() kv.Pair { return g.pairs[g.at-1] }
func (g *given) Err() error    { return nil }

// sent is a stream that notes where the values of its messages lie.
type sent struct {
	grpc.ServerStreamingServer[serverpb.IterateResponse]
	values [][]byte
}

func (s *sent) Context() context.Context { return context.Background() }

func (s *sent) Send(m *serverpb.IterateResponse) error {
	for _, p := range m.GetPairs() {
		s.values = append(s.values, p.GetValue())
	}
	return nil
}

// A large pair is sent from where the iterator has it: a stream that stalls holds it
// once.
func TestLargePairsAreNotCopied(t *testing.T) {
	large, small := make([]byte, 2*batchBytes), make([]byte, 10)
	all := &given{pairs: []kv.Pair{{Key: []byte("a"), Value: small}, {Key: []byte("b"), Value: large}, {Key: []byte("c"), Value: small}}}
	stream := &sent{}
	if err := sendBatched(stream, all, &serverpb.IterateRequest{}, kv.ReadInfo{}); err != nil {
		t.Fatal(err)
	}
	if len(stream.values) != 3 || &stream.values[1][0] != &large[0] || &stream.values[0][0] == &small[0] {
		t.Errorf("%d values, or a large one was copied, or a small one was not", len(stream.values))
	}
}
