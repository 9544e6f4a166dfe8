package state

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// from is a place of a client's.
type from struct {
	kv.Place
	client kv.Client
}

func (f from) Client() kv.Client { return f.client }

// write is a command that sets a key to a value of some length.
func write(length int) *command.Command {
	return &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: []byte("k"), Value: make([]byte, length)}}}
}

// Large commands of a client fill the log only so far. Those that wait take turns with other
// clients', while small ones and those about the log do not wait at all. One that gives up
// waiting was not proposed.
func TestProposalsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewProposals()
		begun := make(chan string, 1000)
		var mu sync.Mutex
		var turns []Turn
		propose := func(ctx context.Context, host byte, c *command.Command) {
			ctx = context.WithValue(ctx, kv.PlaceKey{}, from{client: kv.Client{Host: netip.AddrFrom4([4]byte{192, 0, 2, host})}})
			go func() {
				turn, err := p.Begin(ctx, c, time.Time{})
				if err != nil {
					begun <- fmt.Sprint(host, kv.KindOf(err), kv.OutcomeOf(err))
					return
				}
				begun <- fmt.Sprint(host)
				mu.Lock()
				defer mu.Unlock()
				turns = append(turns, turn)
			}()
			synctest.Wait()
		}
		next := func() (out string) {
			mu.Lock()
			first := turns[0]
			turns = turns[1:]
			mu.Unlock()
			first.End()
			synctest.Wait()
			for len(begun) > 0 {
				out += " " + <-begun
			}
			return out
		}
		for range 4 {
			propose(t.Context(), 1, write(largeRoom))
		}
		if <-begun; len(begun) > 0 {
			t.Fatal("the log has two commands each of which fills it")
		}
		ctx, cancel := context.WithCancel(t.Context())
		propose(ctx, 3, write(largeRoom))
		cancel()
		if got, want := <-begun, fmt.Sprint(3, kv.Exhausted, kv.NotApplied); got != want {
			t.Errorf("one that gives up: %s, want %s", got, want)
		}
		propose(t.Context(), 2, write(largeRoom))
		var order []string
		for range 4 {
			order = append(order, next())
		}
		if want := []string{" 1", " 2", " 1", " 1"}; !slices.Equal(order, want) {
			t.Errorf("begun by %q, want %q", order, want)
		}
		propose(t.Context(), 4, write(1000))
		propose(t.Context(), 4, &command.Command{Kind: command.Tick})
		if len(begun) != 2 {
			t.Errorf("%d of a small command and a tick do not wait", len(begun))
		}
		// Small ones wait for one another only.
		c := write(smallCost / 4)
		cost, _ := fsm.BatchCost(c)
		for range 2 * smallRoom / cost {
			propose(t.Context(), 5, c)
		}
		if n, most := len(begun)-1, smallRoom/cost; n < most-1 || n > most {
			t.Errorf("%d small commands are in the log, of %d that fill it", n, most)
		}
		for len(turns) > 0 {
			next()
		}
	})
}

// What a CompareAndSet compares with travels through the log as its new value does, so it
// takes as much room.
func TestOldValueTakesRoom(t *testing.T) {
	p := NewProposals()
	c := write(1)
	c.Kind, c.Expect = command.CompareAndSet, make([]byte, largeRoom)
	turn, err := p.Begin(t.Context(), c, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Begin(gone, c, time.Time{}); kv.KindOf(err) != kv.Exhausted || kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("a second one whose old value fills the log: %v", err)
	}
	if small, err := p.Begin(gone, write(1), time.Time{}); err != nil {
		t.Errorf("a small command beside it: %v", err)
	} else {
		small.End()
	}
	turn.End()
	if again, err := p.Begin(gone, c, time.Time{}); err != nil {
		t.Errorf("one after it: %v", err)
	} else {
		again.End()
	}
}

// Who has waited for its turn for most of its time is turned away, while there is time to say
// so, and never gets a turn when the log could not use it any more.
func TestTurnsLeaveTimeForTheLog(t *testing.T) {
	const never = time.Duration(0)
	for _, w := range []struct {
		deadline, limit time.Duration // of the caller, and of the replica
		waits           time.Duration
	}{
		{time.Second, never, 750 * time.Millisecond},
		{never, time.Second, 750 * time.Millisecond},
		{time.Second, time.Minute, 750 * time.Millisecond},
		{time.Minute, time.Second, 750 * time.Millisecond},
		{never, never, never},
	} {
		for _, late := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p, begun := NewProposals(), time.Now()
				ctx, limit := t.Context(), time.Time{}
				if w.deadline != never {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, w.deadline)
					defer cancel()
				}
				if w.limit != never {
					limit = begun.Add(w.limit)
				}
				first, err := p.Begin(t.Context(), write(largeRoom), time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				free := 700 * time.Millisecond
				if late {
					free = 900 * time.Millisecond
				}
				time.AfterFunc(free, first.End)
				turn, err := p.Begin(ctx, write(largeRoom), limit)
				waited := time.Since(begun)
				if !late || w.waits == never {
					if err != nil || waited != free {
						t.Errorf("%+v: %v after %v, though there is room after %v", w, err, waited, free)
					}
					turn.End()
				} else if kv.KindOf(err) != kv.Exhausted || kv.OutcomeOf(err) != kv.NotApplied || waited != w.waits {
					t.Errorf("%+v: %v after %v, want a refusal after %v", w, err, waited, w.waits)
				}
				time.Sleep(time.Second) // until there is room
			})
		}
	}
}
