package forward

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// together makes calls of a quick method, which travel in one message.
func (r *rig) together(requests ...string) (waiting []*waiter) {
	r.t.Helper()
	for _, text := range requests {
		c := request(text)
		c.Method = "/s/Get"
		w, _, err := r.add(r.t.Context(), c)
		if err != nil {
			r.t.Fatal(err)
		}
		waiting = append(waiting, w)
	}
	r.Line.out.wake()
	return waiting
}

// answers returns what calls were answered.
func (r *rig) answers(waiting []*waiter) (out []string) {
	r.t.Helper()
	for _, w := range waiting {
		reply, err := r.reply(w, <-w.answered, true)
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, text(r.t, reply))
	}
	return out
}

func numbered(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

// crowd notes how many calls are served at the same time.
type crowd struct{ now, most atomic.Int64 }

func (c *crowd) serve(take time.Duration) handler {
	return func(_ context.Context, _, request string) Answer {
		n := c.now.Add(1)
		defer c.now.Add(-1)
		if n > c.most.Load() {
			c.most.Store(n)
		}
		time.Sleep(take)
		return Answer{Response: wrapperspb.String(request)}
	}
}

// TestQuickCallsAreServedInTurn: those of a message have one goroutine, and one message of
// answers.
func TestQuickCallsAreServedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crowd
		r := newRig(t, c.serve(10*time.Microsecond))
		synctest.Wait()
		before := r.messages.Load()
		want := numbered(batchOf)
		if got := r.answers(r.together(want...)); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("answered %q", got)
		}
		synctest.Wait()
		if most, messages := c.most.Load(), r.messages.Load()-before; most != 1 || messages != 1 {
			t.Errorf("%d at the same time, in %d messages", most, messages)
		}
	})
}

// TestManyCallsShareTheProcessors: those of a long message are served by several goroutines.
func TestManyCallsShareTheProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crowd
		r := newRig(t, c.serve(10*time.Microsecond))
		r.answers(r.together(numbered(4 * batchOf)...))
		if most := c.most.Load(); most != 4 {
			t.Errorf("%d at the same time", most)
		}
	})
}

// TestCallThatWaitsHoldsUpNoOther: neither those before it, whose answers are there, nor those
// behind it, some of which wait as well.
func TestCallThatWaitsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := newRig(t, func(_ context.Context, _, request string) Answer {
			if strings.HasPrefix(request, "wait") {
				<-gate
			}
			return Answer{Response: wrapperspb.String(request)}
		})
		begin := time.Now()
		all := r.together("a", "wait 1", "b", "wait 2", "c", "wait 3", "d")
		for _, i := range []int{0, 2, 4, 6} {
			r.answers(all[i : i+1])
		}
		if took := time.Since(begin); took > 5*stuckAfter {
			t.Errorf("the others are answered after %v", took)
		}
		begin = time.Now()
		last := r.together("e", "wait 4") // none is behind it
		r.answers(last[:1])
		if took := time.Since(begin); took > 5*stuckAfter {
			t.Errorf("the one before is answered after %v", took)
		}
		close(gate)
		if got := r.answers([]*waiter{all[1], all[3], all[5], last[1]}); strings.Join(got, ", ") != "wait 1, wait 2, wait 3, wait 4" {
			t.Errorf("those that waited: %q", got)
		}
	})
}

// TestSlowReadsAreServedTogether: reads that wait for a disk keep it busy.
func TestSlowReadsAreServedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crowd
		r := newRig(t, c.serve(2*slowCall))
		r.answers(r.together(numbered(4)...))
		if most := c.most.Load(); most != 1 {
			t.Fatalf("%d of the first ones at the same time", most)
		}
		r.answers(r.together(numbered(8)...))
		if most := c.most.Load(); most != 8 {
			t.Errorf("%d of the next ones at the same time", most)
		}
	})
}

// TestGatheredCallsAreServedWhenNoMoreEnter: those that wait for room wait for these, too.
func TestGatheredCallsAreServedWhenNoMoreEnter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &narrow{handler: func(_ context.Context, _, request string) Answer { return Answer{Response: wrapperspb.String(request)} }}
		r := newRigOf(t, n)
		begin := time.Now()
		r.answers(r.together(numbered(9)...))
		if took := time.Since(begin); took > enterPause/2 {
			t.Errorf("they are answered after %v", took)
		}
	})
}

// narrow is a handler that lets two calls in.
type narrow struct{ handler }

func (narrow) Enter(busy int) bool { return busy < 2 }

// TestRetiredLineAsksForOwners: calls that were sent may wait for a node that never answers.
func TestRetiredLineAsksForOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(ctx context.Context, _, _ string) Answer {
			<-ctx.Done()
			return Answer{Response: wrapperspb.String("")}
		})
		var moved atomic.Bool
		c := request("k")
		c.Moved = moved.Load
		done := make(chan error, 1)
		go func() {
			_, err := r.Call(context.Background(), c)
			done <- err
		}()
		synctest.Wait()
		r.retire()
		<-r.retired
		moved.Store(true)
		if err := <-done; !errors.Is(err, ErrMoved) {
			t.Error(err)
		}
		r.breaks()
	})
}

type keyOf string

// TestAnswerThatWaitsKeepsNothingOfItsMessage, which counts no longer by then.
func TestAnswerThatWaitsKeepsNothingOfItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handler(func(_ context.Context, _, request string) Answer { return Answer{Response: wrapperspb.String(request)} })
		s := &serving{handler: h, out: newOutbox(), calls: make(map[uint64]*job)}
		s.out.message = make([]byte, maxMessage+1)
		message := make([]byte, heldFrom)
		j := &job{callContext: callContext{origin: t.Context()}, id: 1, client: message[:1], method: message[1:2], request: message[2:2], from: s.hold(len(message))}
		go s.serveOne(j)
		synctest.Wait()
		if j.client != nil || j.method != nil || j.request != nil || j.from != nil {
			t.Error("a call whose answer waits keeps its message")
		}
		s.out.end()
	})
}

// TestContextOfACall: it ends as those of package context do, whenever it is asked.
func TestContextOfACall(t *testing.T) {
	for name, end := range map[string]func(cancel context.CancelCauseFunc, c *callContext) (want, cause error){
		"ended": func(_ context.CancelCauseFunc, c *callContext) (want, cause error) {
			c.end()
			return context.Canceled, context.Canceled
		},
		"deadline": func(context.CancelCauseFunc, *callContext) (want, cause error) {
			time.Sleep(time.Minute)
			return context.DeadlineExceeded, context.DeadlineExceeded
		},
		"stream": func(cancel context.CancelCauseFunc, _ *callContext) (want, cause error) {
			cancel(errTorn)
			return context.Canceled, errTorn
		},
		"ended before the deadline": func(_ context.CancelCauseFunc, c *callContext) (want, cause error) {
			c.end()
			time.Sleep(time.Minute)
			return context.Canceled, context.Canceled
		},
	} {
		for _, waited := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", waited), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					origin, cancel := context.WithCancelCause(context.WithValue(context.Background(), keyOf("k"), "v"))
					defer cancel(nil)
					begin := time.Now()
					c := &callContext{origin: origin, deadline: begin.Add(time.Minute)}
					if at, limited := c.Deadline(); !limited || !at.Equal(begin.Add(time.Minute)) || c.Err() != nil || context.Cause(c) != nil {
						t.Fatal(at, limited, c.Err())
					}
					var child context.Context
					if waited {
						var stop context.CancelFunc
						child, stop = context.WithCancel(c)
						defer stop()
					}
					if c.Value(keyOf("k")) != "v" {
						t.Error("it has not the values of its origin")
					}
					want, cause := end(cancel, c)
					synctest.Wait()
					for range 2 {
						if err := c.Err(); !errors.Is(err, want) || context.Cause(c) != cause {
							t.Errorf("%v, because of %v", err, context.Cause(c))
						}
						select {
						case <-c.Done():
						default:
							t.Error("it is not done")
						}
					}
					if waited && !errors.Is(child.Err(), want) {
						t.Errorf("a context of it: %v", child.Err())
					}
					c.end()
				})
			})
		}
	}
}
