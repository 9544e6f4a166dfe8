package bench

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/refserver"
)

// startReference runs a reference server until the test ends.
func startReference(t *testing.T, name string, serve func(context.Context, net.Listener) error) Target {
	t.Helper()
	l, err := refserver.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := serve(ctx, l); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	var d net.Dialer
	return Target{Name: name, Conns: dialTwice(t, func(ctx context.Context, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", l.Addr().String())
	})}
}

func TestEchoAnswersEveryOperation(t *testing.T) {
	target := startReference(t, "echo", refserver.ServeEcho)
	for _, op := range Operations() {
		cfg := small(op)
		cfg.Count, cfg.Scan = 40, 5
		result, err := Run(t.Context(), cfg, target, Progress{})
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		if result.Operations != 40 || result.Failed != 0 || result.Unmatched != 0 {
			t.Errorf("%s: %d done, %d failed, %d unmatched", op, result.Operations, result.Failed, result.Unmatched)
		}
	}
}

// The payload of a reference run has to be that of a real one.
func TestEchoAnswersWithTheSameSizes(t *testing.T) {
	target := startReference(t, "echo", refserver.ServeEcho)
	cfg := small(Get)
	cfg.ValueSize = 1234
	w := newWorkload(&cfg)
	if err := preload(t.Context(), w, target); err != nil {
		t.Fatal(err)
	}
	get := w.operation(target.Conns[0], 0).(*getOp)
	if _, err := get.do(t.Context()); err != nil || len(get.res.Value) != 1234 {
		t.Errorf("a get brings %d bytes (%v), want 1234", len(get.res.Value), err)
	}
	echo := &echoOp{base: get.base}
	echo.req.Key = get.newKey()
	if _, err := echo.do(t.Context()); err != nil || !bytes.Equal(echo.res.Value, echo.req.Value) || !bytes.Equal(echo.res.Key, echo.req.Key) {
		t.Errorf("the echo differs from what was sent (%v)", err)
	}
}

func TestFsyncServerWritesBeforeItAnswers(t *testing.T) {
	dir := t.TempDir()
	target := startReference(t, "fsync", func(ctx context.Context, l net.Listener) error { return refserver.ServeFsync(ctx, l, dir) })
	cfg := small(Put)
	cfg.Count = 50
	if result, err := Run(t.Context(), cfg, target, Progress{}); err != nil || result.Operations != 50 || result.Failed != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "fsync-*.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	// Each record: a length of one byte, one of two, a key, a value.
	if log, err := os.ReadFile(files[0]); err != nil || len(log) != 50*(1+2+16+128) {
		t.Errorf("the log holds %d bytes (%v), want %d", len(log), err, 50*(1+2+16+128))
	}
	path := fillLedger(t, target, 20)
	if r := check(t, path, target); r.Acknowledged != 20 || r.Lost != 0 {
		t.Errorf("%d acknowledged, %d lost; want 20 and 0", r.Acknowledged, r.Lost)
	}
}

// recordingConn notes the order in which targets are asked.
type recordingConn struct {
	grpc.ClientConnInterface
	name  string
	order *[]string
	mu    *sync.Mutex
	err   error
}

func (c *recordingConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(*c.order); n == 0 || (*c.order)[n-1] != c.name {
		*c.order = append(*c.order, c.name)
	}
	return c.err
}

func TestCompareAlternates(t *testing.T) {
	var order []string
	var mu sync.Mutex
	target := func(name string, err error) Target {
		return Target{Name: name, Conns: []grpc.ClientConnInterface{&recordingConn{name: name, order: &order, mu: &mu, err: err}}}
	}
	cfg := small(Put)
	cfg.Count, cfg.Workers = 20, 1
	refused := status.Error(codes.ResourceExhausted, "full")
	c, err := Compare(t.Context(), cfg, target("ref", nil), target("new", refused), 3, Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "ref new ref new" { // ref new, new ref, ref new: neighbours melt
		t.Errorf("order is %q", got)
	}
	if len(c.Reference.Runs) != 3 || len(c.Target.Runs) != 3 || c.ThroughputRatio != 0 {
		t.Errorf("%d and %d runs, ratio %v", len(c.Reference.Runs), len(c.Target.Runs), c.ThroughputRatio)
	}
	var text bytes.Buffer
	if err := c.WriteText(&text); err != nil || !strings.Contains(text.String(), "ResourceExhausted 20: full") {
		t.Errorf("the errors are not told: %q, %v", text.String(), err)
	}
	if _, err := Compare(t.Context(), cfg, target("same", nil), target("same", nil), 1, Progress{}); err == nil {
		t.Error("a server was compared with itself")
	}
}

func TestSpread(t *testing.T) {
	tests := []struct {
		in   []float64
		want Spread
	}{
		{[]float64{5}, Spread{5, 5, 5}},
		{[]float64{9, 1, 5}, Spread{1, 5, 9}},
		{[]float64{4, 1, 2, 100}, Spread{1, 3, 100}},
	}
	for _, tt := range tests {
		if got := spreadOf(tt.in); got != tt.want {
			t.Errorf("spread is %v, want %v", got, tt.want)
		}
	}
}
