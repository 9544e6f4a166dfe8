package server

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Requests that wait for something leave their places to others, and are bounded by
// themselves.
func TestWaitingRequestsLeaveTheirPlaces(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxInFlight = 8 })
	begun, gate := make(chan struct{}, 10), make(chan struct{})
	r.service.get = func(ctx context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		if string(req.Key) != "wait" {
			return &serverpb.GetResponse{}, nil
		}
		// Twice, as when several vBuckets are waited for.
		for range 2 {
			if err := kv.PlaceOf(ctx).Park(); err != nil {
				return nil, err
			}
			defer kv.PlaceOf(ctx).Unpark()
		}
		begun <- struct{}{}
		<-gate
		return &serverpb.GetResponse{}, nil
	}
	first, second := r.call("wait"), r.call("wait")
	<-begun
	<-begun
	if flight, waiting := r.gauge("dkv_requests_in_flight"), r.gauge("dkv_requests_waiting"); flight != 0 || waiting != 2 {
		t.Errorf("%v in flight, %v wait", flight, waiting)
	}
	wantCode(t, <-r.call("wait"), codes.ResourceExhausted,
		"2 requests wait for a newer state or for room, which is the limit (a quarter of max-requests-in-flight); retry later, or ask another node (not applied)")
	if err := <-r.call("k"); err != nil {
		t.Error(err)
	}
	close(gate)
	for _, done := range []chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if flight, waiting := r.gauge("dkv_requests_in_flight"), r.gauge("dkv_requests_waiting"); flight != 0 || waiting != 0 {
		t.Errorf("%v in flight, %v wait", flight, waiting)
	}
}

// A call that began before its connection was crowded learns of that when it is about to
// read, waits, and then has room for a response like the last one.
func TestCallsLearnThatTheyAreCrowded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxMemory, o.MaxInFlight = 64<<20, 1000 })
	begun, read, crowded := make(chan struct{}), make(chan struct{}), make(chan bool)
	r.service.get = func(ctx context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		place := kv.PlaceOf(ctx)
		begun <- struct{}{}
		<-read
		crowded <- place.Crowded()
		// Twice, as when several vBuckets are read.
		for range 2 {
			if err := place.AwaitRoom(ctx); err != nil {
				return nil, err
			}
		}
		crowded <- place.Crowded()
		return &serverpb.GetResponse{}, nil
	}
	done := r.call("k")
	<-begun
	conn, w := r.calls.conns()[0], r.calls.wire
	if limit := conn.take(w.perConnOut); limit != "" {
		t.Fatal(limit)
	}
	close(read)
	if !<-crowded {
		t.Error("it may read though nothing it makes can be sent")
	}
	testkit.Eventually(t, "it waits", func() bool { return r.gauge("dkv_requests_waiting") == 1 })
	conn.give(w.perConnOut)
	if <-crowded {
		t.Error("it has waited, and has to wait again")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "nothing is held any more", func() bool { return w.held.Load() == 0 })
}

// Room that is reserved by the size of a small response lets no large ones in, however many
// wait for it.
func TestGuessedRoomBoundsResponses(t *testing.T) {
	const small, large, many = 5 << 10, 1 << 20, 200
	r := newRig(t, limitMemoryTo(16<<20), func(o *Options) { o.MaxInFlight, o.ReceiveTimeout = 1000, time.Hour })
	var begun atomic.Int64
	all := make(chan struct{})
	r.service.get = func(ctx context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		switch string(req.GetKey()) {
		case "small":
			return &serverpb.GetResponse{Found: true, Value: make([]byte, small)}, nil
		case "begun":
			begun.Add(1)
			<-all // each of them has found its connection free
		}
		for place := kv.PlaceOf(ctx); place.Crowded(); {
			if err := place.AwaitRoom(ctx); err != nil {
				return nil, err
			}
		}
		return &serverpb.GetResponse{Found: true, Value: make([]byte, large)}, nil
	}
	if _, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("small")}); err != nil {
		t.Fatal(err)
	}
	peak := r.peak()
	conn, w := r.calls.conns()[0], r.calls.wire
	errs := make(chan error, many)
	for range many {
		go func() {
			resp, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("begun")})
			if err == nil && len(resp.GetValue()) != large {
				err = errors.New("the value is cut")
			}
			errs <- err
		}()
	}
	testkit.Eventually(t, "all have begun", func() bool { return begun.Load() == many })
	if limit := conn.take(w.perConnOut); limit != "" {
		t.Fatal(limit)
	}
	conn.mu.Lock()
	conn.last = small
	conn.mu.Unlock()
	close(all)
	testkit.Eventually(t, "they wait", func() bool { return r.gauge("dkv_requests_waiting") == many })
	conn.give(w.perConnOut)
	for range many {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if most := peak(); most > w.perConnOut+large {
		t.Errorf("%d MiB were held, of %d", most>>20, w.perConnOut>>20)
	}
	r.drained()
}

// waits has responses of n bytes wait on a connection, until each has room or ctx ends; what each of them
// then hears is sent.
func waits(ctx context.Context, c *conn, n int64, responses int) <-chan string {
	out := make(chan string, responses)
	for range responses {
		go func() { out <- c.await(ctx, n, nil) }()
	}
	return out
}

// Memory that other connections give back is found though nothing happens on the connection whose
// responses wait for it: after the first of them has given up, and after room of its own was short.
func TestMemoryOfOthersIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1 << 20
		c := &conn{calls: &calls{wire: newWire(64<<20, 1<<20)}}
		w := c.calls.wire
		c.taken = w.perConnOut
		w.held.Add(w.limit) // by others
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := waits(brief, c, n, 1)
		synctest.Wait()
		others := waits(t.Context(), c, n, 500)
		if got := <-first; got != limitMemory {
			t.Errorf("the first one waited for %q", got)
		}
		w.held.Add(-w.limit)
		most := int(w.perConnOut / n)
		for range most {
			<-others
		}
		synctest.Wait()
		if len(others) > 0 || c.unwritten != w.perConnOut || c.short != limitUnwritten || c.looking {
			t.Fatalf("%d MiB are unwritten, and the next one waits for %q", c.unwritten>>20, c.short)
		}
		w.held.Add(w.limit)
		for range most {
			c.give(n)
		}
		time.Sleep(time.Minute)
		if len(others) > 0 {
			t.Error("memory is taken that others hold")
		}
		w.held.Add(-w.limit)
		for range most {
			<-others
		}
		c.mu.Lock()
		c.closed = true
		c.grant()
		c.mu.Unlock()
		for range 500 - 2*most {
			if got := <-others; got != "" {
				t.Errorf("on a closed connection one waits for %q", got)
			}
		}
	})
}

// Nothing is ended for memory that is there by now, be it given back by others or on the connection
// itself.
func TestNothingIsEndedForMemoryThatWasFound(t *testing.T) {
	const n = 1 << 20
	for name, found := range map[string]func(c *conn){
		"of others": func(*conn) {},
		"of its own": func(c *conn) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.grant()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &conn{calls: &calls{wire: newWire(64<<20, 1<<20)}}
				w := c.calls.wire
				w.held.Add(w.limit)
				waiting := waits(t.Context(), c, n, 1)
				synctest.Wait()
				w.held.Add(-w.limit)
				found(c)
				if got := <-waiting; got != "" {
					t.Errorf("it waited for %q", got)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if !w.searched.IsZero() || c.looking {
					t.Error("something to end was searched for")
				}
			})
		})
	}
}
