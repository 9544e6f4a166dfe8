package fair

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

func client(host string, conn uint64) kv.Client {
	return kv.Client{Host: netip.MustParseAddr(host), Conn: conn}
}

// waiting enters on behalf of a client, n times, and sends name when it has a place. It
// returns once all of them wait.
func waiting(t *testing.T, g *Gate, served chan string, name string, of kv.Client, n int) {
	for range n {
		go func() {
			if err := g.Enter(t.Context(), of); err != nil {
				t.Error(err)
			}
			served <- name
		}()
	}
	synctest.Wait()
}

// A client that has asked for much waits behind one that has not, its other connections
// as well.
func TestPlacesAreSharedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1)
		if err := g.Enter(t.Context(), kv.Client{}); err != nil {
			t.Fatal(err)
		}
		served := make(chan string)
		waiting(t, g, served, "greedy 1", client("192.0.2.1", 1), 4)
		waiting(t, g, served, "greedy 2", client("192.0.2.1", 2), 2)
		waiting(t, g, served, "modest", client("192.0.2.2", 1), 2)
		var got []string
		for range 8 {
			g.Leave()
			got = append(got, <-served)
		}
		want := []string{"greedy 1", "modest", "greedy 2", "modest", "greedy 1", "greedy 2", "greedy 1", "greedy 1"}
		if !slices.Equal(got, want) {
			t.Errorf("served in the order %q, want %q", got, want)
		}
		g.Leave()
		if g.free != 1 || !g.hosts.none() || g.hosts.order.Len() != 0 {
			t.Errorf("left behind: %d free, %d hosts", g.free, len(g.hosts.of))
		}
	})
}

// Who needs many places gets them in its turn, though others that need fewer come all the
// time, and all that there are if it needs more. Who gives up does not hold up those behind.
func TestManyPlacesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(4)
		enter := func(served chan string, name string, n int) context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				if g.EnterAs(ctx, client("192.0.2.1", uint64(name[0])), n) == nil {
					served <- name
				}
			}()
			synctest.Wait()
			return cancel
		}
		served := make(chan string, 10)
		enter(served, "a", 3)
		enter(served, "large", 100)
		enter(served, "b", 1)
		if <-served; len(served) != 0 {
			t.Fatalf("%q came before one that waits", <-served)
		}
		g.LeaveAs(3)
		if got := <-served; got != "large" || g.TryEnterAs(1) {
			t.Fatalf("%q is in, with room besides: %d", got, g.free)
		}
		g.LeaveAs(100)
		if got := <-served; got != "b" || g.free != 3 {
			t.Fatalf("%q is in, %d free", got, g.free)
		}
		giveUp := enter(served, "huge", 4)
		enter(served, "c", 3)
		if giveUp(); <-served != "c" || g.free != 0 || !g.hosts.none() {
			t.Fatalf("%d free, none waits: %v", g.free, g.hosts.none())
		}
	})
}

// Who gives up waiting leaves no trace, and a place that was given just then is kept.
func TestWaitingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 {
			if err := g.Enter(ctx, client("192.0.2.1", 1)); g.free != 0 || err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(g.free, err)
			}
		}
		if !g.hosts.none() || g.hosts.order.Len() != 0 {
			t.Error("a line is left behind")
		}
		g.Leave()
		if err := g.Enter(ctx, kv.Client{}); err != nil {
			t.Errorf("a free place is not given: %v", err)
		}
	})
}

// Never more than there are places, none lost, with all of them in a hurry.
func TestPlacesAreBounded(t *testing.T) {
	const places = 3
	g := New(places)
	var inside, entered atomic.Int64
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*100*time.Microsecond)
			defer cancel()
			for range 20 {
				if g.Enter(ctx, client("192.0.2.1", uint64(i%5))) != nil {
					continue
				}
				if n := inside.Add(1); n > places {
					t.Errorf("%d have places", n)
				}
				entered.Add(1)
				inside.Add(-1)
				g.Leave()
			}
		})
	}
	all.Wait()
	if g.free != places || !g.hosts.none() || entered.Load() == 0 {
		t.Errorf("left behind: %d free, %d hosts; %d had places", g.free, len(g.hosts.of), entered.Load())
	}
}

// BenchmarkCrowd enters and leaves while thousands of connections wait.
func BenchmarkCrowd(b *testing.B) {
	for _, crowd := range []int{10, 10_000} {
		b.Run(fmt.Sprint(crowd), func(b *testing.B) {
			g := New(0)
			for i := range crowd {
				g.wait(client("192.0.2.1", uint64(i)), 1)
			}
			ended, cancel := context.WithCancel(b.Context())
			cancel()
			for i := 0; b.Loop(); i++ {
				if err := g.Enter(ended, client("192.0.2.2", uint64(i))); err == nil {
					b.Fatal("there was a place")
				}
				g.wait(client("192.0.2.1", uint64(crowd+i)), 1)
				g.Leave()
			}
		})
	}
}

func BenchmarkFreePlace(b *testing.B) {
	g := New(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := g.Enter(b.Context(), kv.Client{}); err != nil {
				b.Fatal(err)
			}
			g.Leave()
		}
	})
}
