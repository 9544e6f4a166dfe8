package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hashed is a node whose content is what its index says, unless other says something else.
type hashed struct {
	serverpb.UnimplementedDKVNodeServer
	addr           string
	history, other string
	// next is the index of the nth answer, from 1 on.
	next func(n int) int

	mu sync.Mutex
	n  int
}

func (h *hashed) GetContentHash(context.Context, *serverpb.ContentHashRequest) (*serverpb.ContentHashResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	index := h.next(h.n)
	sum := sha256.Sum256(fmt.Append(nil, index, h.other))
	return &serverpb.ContentHashResponse{Index: uint64(index), Hash: sum[:], Keys: 1, HistoryId: h.history}, nil
}

// answers is how often the node was asked.
func (h *hashed) answers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

func serve(t *testing.T, next func(n int) int) *hashed {
	t.Helper()
	h := &hashed{history: "h1", next: next}
	s := grpc.NewServer()
	serverpb.RegisterDKVNodeServer(s, h)
	h.addr = servertest.Serve(t, s, nil).Addr
	return h
}

// verifierOf compares the contents of nodes without waiting.
func verifierOf(t *testing.T, all ...*hashed) *Verifier {
	t.Helper()
	o := options.DefaultOptions()
	o.Timeout = time.Minute
	client, err := nodes.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	var addrs []string
	for _, h := range all {
		addrs = append(addrs, h.addr)
	}
	v := New(client, addrs)
	t.Cleanup(v.Close)
	v.wait = func(context.Context, int) error { return nil }
	return v
}

// Nodes that never hash the same index in the same try do so over several, and
// one that stands far behind is waited for.
func TestVerifyUnderLightLoad(t *testing.T) {
	tests := []struct {
		name  string
		nodes []func(n int) int
		index uint64
		tries int
	}{
		{"answers of other tries", []func(int) int{
			func(n int) int { return 10 * n },
			func(n int) int { return 10*n + 10 }}, 20, 2},
		{"one catches up late", []func(int) int{
			func(int) int { return 40 },
			func(int) int { return 40 },
			func(n int) int { return 4 + n }}, 40, 36},
		{"writes that pause", []func(int) int{
			func(n int) int { return min(7*n+3, 200) },
			func(n int) int { return min(7*n+4, 200) },
			func(n int) int { return min(7*n+5, 200) }}, 200, 29},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var all []*hashed
			for _, next := range tt.nodes {
				all = append(all, serve(t, next))
			}
			got, err := verifierOf(t, all...).Compare(t.Context(), "default")
			if n := all[0].answers(); err != nil || !got.Equal() || got.Nodes[0].Index != tt.index || n != tt.tries {
				t.Errorf("%+v, %v after %d tries, want index %d after %d", got, err, n, tt.index, tt.tries)
			}
		})
	}
}

func TestVerifyOfNodesThatNeverMeet(t *testing.T) {
	odd, even := serve(t, func(n int) int { return 2*n + 1 }), serve(t, func(n int) int { return 2*n + 2 })
	got, err := verifierOf(t, odd, even).Compare(t.Context(), "default")
	if err != nil || got.Verdict != notComparable || got.Behind != nil ||
		got.Sentence() != "not comparable: writes continue; pause them with -pauseWrites (the nodes were never at the same index, last 101, 102)" {
		t.Errorf("%+v, %v: %s", got, err, got.Sentence())
	}
	if n := odd.answers(); n != tries {
		t.Errorf("%d tries", n)
	}
	// One that stands still below the others would not be helped by a pause.
	moves, still, below := serve(t, func(n int) int { return 1000 + n }), serve(t, func(int) int { return 2 }), serve(t, func(int) int { return 1000 })
	got, err = verifierOf(t, moves, still, below).Compare(t.Context(), "default")
	if err != nil || got.Verdict != notComparable || !strings.Contains(got.Sentence(), ", and "+still.addr+", "+below.addr+" made no progress") {
		t.Errorf("%+v, %v: %s", got, err, got.Sentence())
	}
}

// The content of most nodes is the right one, and two histories are two contents.
func TestVerifyOfNodesThatDiffer(t *testing.T) {
	at := func(int) int { return 5 }
	a, b, c := serve(t, at), serve(t, at), serve(t, at)
	b.other = "another value"
	got, err := verifierOf(t, a, b, c).Compare(t.Context(), "default")
	if err != nil || got.Equal() || got.Sentence() != "different at the same index: "+b.addr {
		t.Errorf("%+v, %v", got, err)
	}
	b.other, c.history = "", "h2"
	got, err = verifierOf(t, a, b, c).Compare(t.Context(), "default")
	if err != nil || got.Equal() || got.Sentence() != "different at the same index: "+c.addr {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestVerdictOfTwoHistories(t *testing.T) {
	v := Verdict{Verdict: notComparable, Nodes: []Content{{Index: 3, Address: "a:1", History: "x"}, {Index: 4, Address: "b:1", History: "y"}}}
	if s := v.Sentence(); s != "not comparable: a:1 and b:1 hold different histories, as after a restore" {
		t.Errorf("sentence is %q", s)
	}
}

func TestVerifyStopsWhenInterrupted(t *testing.T) {
	a, b := serve(t, func(int) int { return 2 }), serve(t, func(int) int { return 3 })
	v := verifierOf(t, a, b)
	ctx, interrupt := context.WithCancel(t.Context())
	v.wait = func(ctx context.Context, try int) error {
		if try == 3 {
			interrupt()
		}
		return ctx.Err()
	}
	if _, err := v.Compare(ctx, "default"); !errors.Is(err, context.Canceled) || a.answers() != 3 {
		t.Errorf("%v after %d tries", err, a.answers())
	}
}

// The waits grow, and together leave a node half a minute to catch up.
func TestWaitsOfVerify(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that is interrupted ends with %v", err)
	}
	var mean time.Duration
	for try := 1; try < tries; try++ {
		mean += min(firstPause*time.Duration(try), maxPause)
	}
	if mean < 25*time.Second || mean > 45*time.Second {
		t.Errorf("all waits together take %s", mean)
	}
}
