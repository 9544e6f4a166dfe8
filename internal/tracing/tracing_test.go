package tracing

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

const sampled, unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

// newTracer makes a tracer whose collector is not there.
func newTracer(t *testing.T, sample float64) (*Tracer, *testkit.Log) {
	t.Helper()
	log := &testkit.Log{}
	tracer, err := New(Options{Endpoint: testkit.Address(t), Sample: sample, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Close() })
	return tracer, log
}

// The caller decides whether its request is sampled; without a caller's word the share does.
func TestWhichRequestsAreSampled(t *testing.T) {
	all, _ := newTracer(t, 1)
	none, _ := newTracer(t, 0)
	for name, c := range map[string]struct {
		tracer *Tracer
		parent []string
		want   bool
	}{
		"all":                        {all, nil, true},
		"none":                       {none, nil, false},
		"none, but the caller's":     {none, []string{sampled}, true},
		"all, but not the caller's":  {all, []string{unsampled}, false},
		"a header that is no parent": {none, []string{"00-zz"}, false},
		"no tracing":                 {nil, []string{sampled}, false},
	} {
		call := c.tracer.Begin("Get", time.Now(), c.parent)
		if (call != nil) != c.want || (call.Onward() != "") != c.want {
			t.Errorf("%s: sampled %t, want %t", name, call != nil, c.want)
		}
		if onward := call.Onward(); c.want && len(c.parent) > 0 && (!strings.HasPrefix(onward, sampled[:36]) || onward == sampled) {
			t.Errorf("%s: goes on as %s", name, onward)
		}
		call.End(codes.OK, "", nil)
	}
}

// A collector that is away is said once, and holds up no request.
func TestCollectorThatIsAwayIsSaidOnce(t *testing.T) {
	tracer, log := newTracer(t, 1)
	for range 3 {
		trace := new(kv.Trace)
		trace.Since(kv.Read, time.Now().Add(-time.Millisecond))
		tracer.Begin("Get", time.Now(), nil).End(codes.Internal, "it failed", trace)
		_ = tracer.provider.ForceFlush(t.Context())
	}
	if lines := log.Lines(); len(lines) != 1 || !strings.Contains(lines[0], "spans cannot be sent to trace-endpoint and are dropped") {
		t.Errorf("%q", lines)
	}
}

// Requests that are not sampled cost no allocation.
func TestUnsampledRequestsDoNotAllocate(t *testing.T) {
	none, _ := newTracer(t, 0)
	begun := time.Now()
	for _, tracer := range []*Tracer{nil, none} {
		if n := testing.AllocsPerRun(100, func() {
			tracer.Begin("Get", begun, nil).End(codes.OK, "", nil)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// A collector that takes connections and answers nothing does not hold up the end.
func TestCollectorThatHangsDoesNotHoldUpTheEnd(t *testing.T) {
	hangs := testkit.Listen(t) // the kernel accepts for it
	tracer, err := New(Options{Endpoint: hangs.Addr().String(), Sample: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	tracer.Begin("Get", time.Now(), nil).End(codes.OK, "", nil)
	begun := time.Now()
	if err := tracer.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begun); d > patience/2 {
		t.Errorf("it took %v", d)
	}
}
