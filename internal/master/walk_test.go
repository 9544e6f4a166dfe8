package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// listed is a sorted source for tests.
type listed struct {
	keys   []string
	at     int
	fail   error // at the end
	closed int
}

func (l *listed) Next() bool { l.at++; return l.at <= len(l.keys) }

func (l *listed) Pair() kv.Pair {
	return kv.Pair{Key: []byte(l.keys[l.at-1]), Value: []byte("v" + l.keys[l.at-1])}
}

func (l *listed) Err() error {
	if l.at > len(l.keys) {
		return l.fail
	}
	return nil
}

func (l *listed) Close() { l.closed++ }

// TestMergeAgainstSort deals random keys to random numbers of sources: what
// comes out is what sorting them gives.
func TestMergeAgainstSort(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		reverse := round%2 == 1
		sources := make([]*listed, 2+rnd.IntN(9))
		for i := range sources {
			sources[i] = &listed{}
		}
		want := make(map[string]bool)
		for range rnd.IntN(60) {
			key := strings.Repeat(string(rune('a'+rnd.IntN(3))), 1+rnd.IntN(3)) + fmt.Sprint(rnd.IntN(40))
			if !want[key] {
				want[key] = true
				s := sources[rnd.IntN(len(sources))]
				s.keys = append(s.keys, key)
			}
		}
		sorted := slices.Sorted(func(yield func(string) bool) {
			for k := range want {
				if !yield(k) {
					return
				}
			}
		})
		if reverse {
			slices.Reverse(sorted)
		}
		var dealt []source
		for _, s := range sources {
			slices.Sort(s.keys)
			if reverse {
				slices.Reverse(s.keys)
			}
			dealt = append(dealt, s)
		}
		w := walk{sources: dealt}
		var got []string
		m := w.iterator(reverse)
		for m.Next() {
			got = append(got, string(m.Pair().Key))
		}
		if m.Next() || m.Err() != nil || !slices.Equal(got, sorted) {
			t.Fatalf("round %d: %q, %v, want %q", round, got, m.Err(), sorted)
		}
		w.Close()
		for i, s := range sources {
			if s.closed != 1 {
				t.Errorf("source %d was closed %d times", i, s.closed)
			}
		}
	}
}

// TestMergeStopsAtError must not take a source that failed for one that ended.
func TestMergeStopsAtError(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		keys []string
		want int
	}{{nil, 0}, {[]string{"b"}, 2}} {
		m := newMerge([]source{&listed{keys: []string{"a", "c", "d"}}, &listed{keys: c.keys, fail: broken}}, false)
		n := 0
		for m.Next() {
			n++
		}
		if n != c.want || !errors.Is(m.Err(), broken) || m.Next() {
			t.Errorf("%q: %d pairs, %v", c.keys, n, m.Err())
		}
	}
}

// TestIterateAcross compares iterations over vBuckets on three nodes with a sorted
// list, asked at every node, at both levels, in all forms.
func TestIterateAcross(t *testing.T) {
	const vBuckets = 5
	c := newCluster(t, 3, vBuckets)
	for v := range vBuckets {
		c.Own(v, v%3)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	model := make(map[string]string)
	for range 300 {
		key := fmt.Sprintf("%c%c%03d", 'a'+rune(rnd.IntN(3)), 'a'+rune(rnd.IntN(2)), rnd.IntN(1000))
		model[key] = strings.Repeat("v", rnd.IntN(2000))
		mastertest.MustPut(t, c.Nodes[rnd.IntN(3)], key, model[key])
	}
	for round := range 150 {
		req := &serverpb.IterateRequest{
			ReadConsistency: serverpb.ReadConsistency(rnd.IntN(2)),
			KeyPrefix:       []byte([]string{"", "", "a", "bb", "x"}[rnd.IntN(5)]),
			Limit:           uint64([]int{0, 0, 1, 7, 1000}[rnd.IntN(5)]),
			Reverse:         rnd.IntN(2) == 0,
			KeysOnly:        rnd.IntN(2) == 0,
			Batched:         rnd.IntN(2) == 0,
		}
		if rnd.IntN(2) == 0 {
			req.StartKey = fmt.Appendf(bytes.Clone(req.KeyPrefix), "b%d", rnd.IntN(10))
		}
		node := rnd.IntN(3)
		got, err := iterated(testkit.Within(t, patience), c.Nodes[node], req)
		if want := modelled(model, req); err != nil || !slices.Equal(got, want) {
			t.Fatalf("round %d, node %d, %v: %v\n%d pairs, want %d\n%.300q\n%.300q", round, node, req, err, len(got), len(want), got, want)
		}
	}
}

// iterated lists an iteration as key=value, and checks that no index is told
// where several vBuckets take part.
func iterated(ctx context.Context, n serverpb.DKVClient, req *serverpb.IterateRequest) (out []string, _ error) {
	s, err := n.Iterate(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if m.GetIndex() != 0 {
			return out, fmt.Errorf("index %d", m.GetIndex())
		}
		if !req.GetBatched() {
			out = append(out, fmt.Sprintf("%s=%s", m.GetKey(), m.GetValue()))
		}
		for _, p := range m.GetPairs() {
			out = append(out, fmt.Sprintf("%s=%s", p.GetKey(), p.GetValue()))
		}
	}
}

// modelled is what an iteration over a map gives.
func modelled(model map[string]string, req *serverpb.IterateRequest) (out []string) {
	var keys []string
	for key := range model {
		start := string(req.GetStartKey())
		behind := start != "" && (key < start && !req.GetReverse() || key > start && req.GetReverse())
		if strings.HasPrefix(key, string(req.GetKeyPrefix())) && !behind {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if req.GetReverse() {
		slices.Reverse(keys)
	}
	for _, key := range keys {
		value := model[key]
		if req.GetKeysOnly() {
			value = ""
		}
		if out = append(out, key+"="+value); uint64(len(out)) == req.GetLimit() {
			break
		}
	}
	return out
}

func TestIterateAcrossRefusesIndex(t *testing.T) {
	c := newCluster(t, 2, 3)
	_, err := iterated(testkit.Within(t, patience), c.Nodes[1], &serverpb.IterateRequest{MinIndex: 1})
	mastertest.WantStatus(t, err, codes.InvalidArgument, "minIndex is an index of one vBucket, and the request is about 3; leave it out, or use LINEARIZABLE")
}

// TestIterateIsOneSnapshotElsewhere writes while another node's pairs are read.
func TestIterateIsOneSnapshotElsewhere(t *testing.T) {
	for _, vBuckets := range []int{1, 3} {
		c := newCluster(t, 2, vBuckets)
		const n = 300
		value := strings.Repeat("v", 4000)
		for _, key := range mastertest.Keys(n) {
			mastertest.MustPut(t, c.Nodes[0], string(key), value)
		}
		s, err := c.Nodes[1].Iterate(testkit.Within(t, patience), &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				if i != n {
					t.Errorf("%d pairs", i)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(m.GetValue()) != value {
				t.Fatalf("%s was written after the iteration began", m.GetKey())
			}
			if i == 0 {
				for _, key := range mastertest.Keys(n + 10) {
					mastertest.MustPut(t, c.Nodes[0], string(key), "later")
				}
			}
		}
	}
}

// TestIterateOwnerDies ends an iteration that cannot go on from one snapshot.
func TestIterateOwnerDies(t *testing.T) {
	for _, vBuckets := range []int{1, 3} {
		c := newCluster(t, 3, vBuckets)
		for _, key := range mastertest.Keys(200) {
			mastertest.MustPut(t, c.Nodes[0], string(key), strings.Repeat("v", 60_000)) // far beyond what is under way
		}
		s, err := c.Nodes[1].Iterate(testkit.Within(t, patience), &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		c.Nodes[0].Kill()
		for err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%d vBuckets: %v", vBuckets, err)
		}
	}
}

// taps are the two ends of a relay.
type taps struct {
	grpc.ServerStreamingServer[serverpb.IterateResponse]
	t         *testing.T
	got, sent int
	fail      error
}

func (p *taps) Recv(m any) error {
	if p.got++; p.got > 5 {
		return io.EOF
	}
	proto.Merge(m.(*serverpb.IterateResponse), &serverpb.IterateResponse{Key: fmt.Append(nil, p.got)})
	return nil
}

func (p *taps) Opened() error { return nil }

func (p *taps) Close() {}

func (p *taps) Send(m *serverpb.IterateResponse) error {
	if p.sent++; p.sent != p.got {
		p.t.Errorf("message %d is sent after %d were received", p.sent, p.got)
	}
	return p.fail
}

// TestRelayHoldsOneMessage takes a message only when the one before it is gone.
func TestRelayHoldsOneMessage(t *testing.T) {
	p := &taps{t: t}
	s := &remotePairs{stream: p}
	if err := errors.Join(s.begin(), s.relay(p)); err != nil || p.sent != 5 {
		t.Errorf("%d messages, %v", p.sent, err)
	}
	p = &taps{t: t, fail: errors.New("gone")}
	s = &remotePairs{stream: p}
	if err := errors.Join(s.begin(), s.relay(p)); !errors.Is(err, p.fail) || p.got != 1 {
		t.Errorf("%d messages, %v", p.got, err)
	}
}

// TestIterateRetriesBeforeFirstMessage has one of several owners change while the
// states are being pinned.
func TestIterateRetriesBeforeFirstMessage(t *testing.T) {
	c := newCluster(t, 3, 3)
	for _, key := range mastertest.Keys(30) {
		mastertest.MustPut(t, c.Nodes[0], string(key), "v")
	}
	c.Own(1, 1)
	tries := 0
	mastertest.Hook(&c.Nodes[1].Replicas[1].OnServe, func(context.Context) error {
		tries++
		c.Own(1, 2)
		return kv.Errorf(kv.NotOwner, "handed over")
	})
	got, err := iterated(testkit.Within(t, patience), c.Nodes[0], &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	if err != nil || len(got) != 30 || tries != 1 {
		t.Errorf("%d pairs after %d tries, %v", len(got), tries, err)
	}
}

// TestIterateSilentElsewhere has no first message before the deadline.
func TestIterateSilentElsewhere(t *testing.T) {
	c := newCluster(t, 2, 2)
	mastertest.Hook(&c.Nodes[0].Replicas[1].OnServe, func(ctx context.Context) error {
		<-ctx.Done()
		return kv.Errorf(kv.Unavailable, "gone: %w", ctx.Err())
	})
	const limit = 250 * time.Millisecond
	testkit.Timely(t, func() error {
		begin := time.Now()
		_, err := iterated(testkit.Within(t, limit), c.Nodes[1], &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		// Without a reason it is the client's own error: the node's came too late.
		if took := time.Since(begin); took > limit || status.Code(err) != codes.DeadlineExceeded || mastertest.Reason(err) != kv.ReasonNotApplied {
			return fmt.Errorf("after %v: %w, reason %q", took, err, mastertest.Reason(err))
		}
		return nil
	})
}
