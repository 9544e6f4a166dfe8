package everywhere

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nodes are the other nodes of a log: how far each is, or why it does not answer.
type nodes struct {
	mu     sync.Mutex
	at     map[string]Position
	errs   map[string]error
	down   []string
	asked  int
	moved  signal.Signal
	roster []string
}

func (n *nodes) set(address string, history string, at kv.Index, err error) {
	n.mu.Lock()
	n.at[address], n.errs[address] = Position{history, at}, err
	n.mu.Unlock()
	n.moved.Raise()
}

func (n *nodes) marks(down ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

// ask answers as a node does: once the index is applied, or after half a second.
func (n *nodes) ask(ctx context.Context, address string, index kv.Index) (Position, error) {
	late := time.After(500 * time.Millisecond)
	for {
		moved := n.moved.Changed()
		n.mu.Lock()
		at, err := n.at[address], n.errs[address]
		n.asked++
		n.mu.Unlock()
		if err != nil || at.Applied >= index {
			return at, err
		}
		select {
		case <-moved:
		case <-late:
			return at, nil
		case <-ctx.Done():
			return at, ctx.Err()
		}
	}
}

func open(t *testing.T, roster ...string) (*Log, *nodes) {
	n := &nodes{at: map[string]Position{}, errs: map[string]error{}, roster: roster}
	l := New(Options{
		Roster:  func(context.Context) ([]string, error) { n.mu.Lock(); defer n.mu.Unlock(); return n.roster, nil },
		Ask:     n.ask,
		History: func() string { return "h" },
		Down:    func() []string { n.mu.Lock(); defer n.mu.Unlock(); return n.down },
	})
	t.Cleanup(l.Close)
	return l, n
}

func await(t *testing.T, l *Log, ctx context.Context, index kv.Index) <-chan error {
	out := make(chan error, 1)
	go func() { out <- l.Await(ctx, index) }()
	synctest.Wait()
	return out
}

func pending(t *testing.T, what string, out <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-out:
		t.Fatalf("%s: answered with %v", what, err)
	default:
	}
}

// TestEveryNodeIsAwaited: an answer comes once each node has applied it in the log's own
// history, and nodes are asked only while an answer waits.
func TestEveryNodeIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n := open(t, "a", "b")
		n.set("a", "h", 5, nil)
		n.set("b", "h", 3, nil)
		out := await(t, l, t.Context(), 5)
		pending(t, "b lacks two", out)
		n.set("b", "other", 9, nil)
		pending(t, "b has another history", out)
		n.set("b", "h", 6, nil)
		if err := <-out; err != nil {
			t.Fatal(err)
		}
		if err := l.Await(t.Context(), 5); err != nil { // it is known by now
			t.Fatal(err)
		}
		synctest.Wait()
		asked := n.asked
		time.Sleep(time.Minute)
		if n.asked != asked {
			t.Errorf("nodes are asked %d times although no answer waits", n.asked-asked)
		}
		l.Close()
	})
}

// TestMarkedNodesAreNotAwaited: a silent node is found, and once the log marks it, the answer
// comes. It is back when it answers and has caught up.
func TestMarkedNodesAreNotAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n := open(t, "a", "b")
		n.set("a", "h", 9000, nil)
		n.set("b", "h", 1, errors.New("it is gone"))
		out := await(t, l, t.Context(), 9000)
		time.Sleep(900 * time.Millisecond)
		if got := l.Silent(time.Second); len(got) != 0 {
			t.Errorf("silent: %q", got)
		}
		time.Sleep(200 * time.Millisecond)
		if got := l.Silent(time.Second); !slices.Equal(got, []string{"b"}) {
			t.Errorf("silent: %q", got)
		}
		pending(t, "b is not marked", out)
		n.marks("b")
		l.Marked()
		if err := <-out; err != nil {
			t.Fatal(err)
		}
		back := func() []string {
			l.Returned([]string{"b"}, 9000)
			time.Sleep(lookAgain)
			return l.Returned([]string{"b"}, 9000)
		}
		if got := back(); len(got) != 0 {
			t.Errorf("back: %q", got)
		}
		n.set("b", "h", 10, nil)
		if got := back(); len(got) != 0 {
			t.Errorf("back although it lags: %q", got)
		}
		n.set("b", "h", 9000, nil)
		if got := back(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("back: %q", got)
		}
		l.Close()
	})
}

// TestTheTimeWithoutAnAnswerToWaitIsNotSilence: a node that was not asked after an answer was given
// up is not silent at the next one. The time for which answers have waited counts together.
func TestTheTimeWithoutAnAnswerToWaitIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n := open(t, "a")
		n.set("a", "h", 99, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := <-await(t, l, ctx, 100); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		out := await(t, l, t.Context(), 101)
		if got := l.Silent(time.Second); len(got) != 0 {
			t.Errorf("silent: %q", got)
		}
		time.Sleep(950 * time.Millisecond)
		if got := l.Silent(time.Second); !slices.Equal(got, []string{"a"}) {
			t.Errorf("silent while answers wait: %q", got)
		}
		n.set("a", "h", 101, nil)
		if err := <-out; err != nil {
			t.Error(err)
		}
		l.Close()
	})
}

// TestAReturnedNodeGetsItsTime although it lags a little when its mark ends: what it was marked for
// does not count any more.
func TestAReturnedNodeGetsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n := open(t, "a")
		n.set("a", "h", 99, nil)
		out := await(t, l, t.Context(), 100)
		time.Sleep(1100 * time.Millisecond)
		n.marks("a")
		l.Marked()
		if err := <-out; err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		l.Returned([]string{"a"}, 100)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		time.Sleep(lookAgain)
		if got := l.Returned([]string{"a"}, 100); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("back: %q", got)
		}
		n.marks()
		l.Marked()
		time.Sleep(time.Minute)
		out = await(t, l, t.Context(), 101)
		if got := l.Silent(time.Second); len(got) != 0 {
			t.Errorf("silent: %q", got)
		}
		time.Sleep(1100 * time.Millisecond)
		if got := l.Silent(time.Second); !slices.Equal(got, []string{"a"}) {
			t.Errorf("silent while an answer waits: %q", got)
		}
		n.set("a", "h", 101, nil)
		if err := <-out; err != nil {
			t.Error(err)
		}
		l.Close()
	})
}

// TestTheErrorNamesTheNodes that lack what is to be shown, each with its reason.
func TestTheErrorNamesTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n := open(t, "a", "b", "c")
		n.set("a", "h", 7, nil)
		n.set("b", "h", 0, kv.Errorf(kv.Unimplemented, "its release does not say"))
		n.set("c", "h", 8, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := <-await(t, l, ctx, 8)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "a (it has applied change 7, and this is 8), b (its release does not say)") {
			t.Error(err)
		}
		out := await(t, l, t.Context(), 8)
		time.Sleep(time.Minute)
		if got := l.Silent(time.Second); !slices.Equal(got, []string{"a"}) {
			t.Errorf("silent: %q", got)
		}
		n.set("a", "h", 8, nil)
		n.set("b", "h", 8, nil)
		if err := <-out; err != nil {
			t.Error(err)
		}
		l.Close()
	})
}

// TestGoneNodesAreForgotten: a mark of a node that keeps the log no more ends.
func TestGoneNodesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n := open(t, "a")
		n.set("a", "h", 5, nil)
		if got := l.Returned([]string{"gone"}, 5); len(got) != 0 {
			t.Errorf("before anyone has looked who there is: %q", got)
		}
		if err := l.Await(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		if got := l.Returned([]string{"gone"}, 5); !slices.Equal(got, []string{"gone"}) {
			t.Errorf("back: %q", got)
		}
		l.Close()
	})
}
