package dkv

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A pause that would outlast the caller's deadline ends with news of the topology, by which the
// call may still succeed, and with the client.
func TestLastPauseEndsWithNews(t *testing.T) {
	c := ready(t, newCluster(t, 1, 1).addrs())
	ctx := testkit.Within(t, enough)
	for _, end := range []struct {
		what string
		by   func()
		want error
	}{{"a change", c.changed.Raise, nil}, {"Close", func() { _ = c.Close() }, ErrClosed}} {
		done := make(chan error, 1)
		go func() { done <- c.sleep(ctx, 2*enough) }()
		testkit.Eventually(t, end.what+" ends the pause", func() bool {
			end.by()
			select {
			case err := <-done:
				if !errors.Is(err, end.want) {
					t.Errorf("%s: %v", end.what, err)
				}
				return true
			default:
				return false
			}
		})
	}
}

// A caller may end its context with a cause of its own. The error shows both, and says nothing of the node.
func TestOwnCauseOfTheCaller(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs())
	own := errors.New("the user has left")
	cl.nodes[0].hang()
	for name, call := range map[string]func(context.Context) error{
		"get": func(ctx context.Context) error { _, err := c.Get(ctx, []byte("k")); return err },
		"put": func(ctx context.Context) error { _, err := c.Put(ctx, []byte("k"), nil); return err },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		sent := cl.nodes[0].count(getMethod) + cl.nodes[0].count(putMethod)
		go func() {
			testkit.Eventually(t, "the call arrives", func() bool { return cl.nodes[0].count(getMethod)+cl.nodes[0].count(putMethod) > sent })
			cancel(own)
		}()
		for range 2 { // the second time the context has ended before
			if err := call(ctx); !errors.Is(err, own) || !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := must[*node](t)(c.node(cl.nodes[0].addr)); !n.reachable() {
			t.Errorf("%s: the node counts as one that cannot be reached", name)
		}
		timed, stop := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, own)
		if err := call(timed); !errors.Is(err, own) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		stop()
	}
}

// So does that of an iteration.
func TestOwnCauseOfAnIteration(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs())
	own := errors.New("the user has left")
	asked := cl.nodes[0].hangAt(iterateMethod)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		testkit.Eventually(t, "the iteration arrives", func() bool { return asked.Load() > 0 })
		cancel(own)
	}()
	if _, err := walked(ctx, c, Range{}); !errors.Is(err, own) || !errors.Is(err, context.Canceled) {
		t.Error("iterate:", err)
	}
}

// late is a context whose end comes some time after its deadline, as it does while the machine is busy.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

// A server may say that the deadline has passed before the caller's context has ended.
func TestOwnCauseWhenTheServerIsEarlier(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	own := errors.New("the user has left")
	ctx, stop := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, own)
	defer stop()
	a := attempts{client: c, request: new(request), began: time.Now()}
	out := toError(kv.Errorf(kv.Unavailable, "it did not answer: %w", context.DeadlineExceeded), cl.nodes[0].addr, false)
	if err := a.finalError(late{ctx}, out); !errors.Is(err, own) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
