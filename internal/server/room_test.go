package server

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// What a connection may leave unread begins small, and grows with what it takes.
func TestRoomGrowsWithWhatIsTaken(t *testing.T) {
	const n = 1 << 20
	c := &conn{calls: &calls{wire: newWire(256<<20, n)}}
	w := c.calls.wire
	room := func() (got int64) {
		for c.take(n) == "" {
			got += n
		}
		for left := got; left > 0; left -= n {
			c.give(n)
		}
		return got
	}
	if got := room(); got != firstOut {
		t.Errorf("a client that has taken nothing may leave %d MiB", got>>20)
	}
	c.taken = 2 * n
	if got := room(); got != firstOut+growth*c.taken {
		t.Errorf("a client that has taken 2 MiB may leave %d", got>>20)
	}
	c.taken = w.perConnOut
	if got := room(); got != w.perConnOut {
		t.Errorf("a client that takes much may leave %d MiB", got>>20)
	}
	c.taken = 0
	if limit := c.take(w.perConnOut); limit != "" {
		t.Errorf("a large response, alone, finds no room: %s", limit)
	}
	if !c.crowded() {
		t.Error("it is not crowded")
	}
}

// A client that takes its responses gets all of the room.
func TestRoomIsEarned(t *testing.T) {
	r := newRig(t, limitMemoryTo(64<<20))
	r.service.large()
	for range 20 {
		if _, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	conn, w := r.calls.conns()[0], r.calls.wire
	testkit.Eventually(t, "it may leave as much as any", func() bool {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return w.newConnOut+growth*conn.taken >= w.perConnOut
	})
}

// The streams that a client begins on a connection of which it takes nothing are not read for: they
// would all hold their first messages.
func TestStreamsBeginOnceThereIsRoom(t *testing.T) {
	const many = 50
	r := newRig(t, limitMemoryTo(64<<20))
	began, read := make(chan kv.Place, many), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(read) })
	defer goOn()
	r.service.iterate = func(_ *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		place := kv.PlaceOf(stream.Context())
		began <- place
		<-read
		for place.Crowded() {
			if err := place.AwaitRoom(stream.Context()); err != nil {
				return err
			}
		}
		if err := stream.Send(&serverpb.IterateResponse{Value: make([]byte, 8)}); err != nil || place.Crowded() {
			t.Errorf("a stream that has begun: %v, or it has to wait again", err)
		}
		return nil
	}
	ended := make(chan error, many)
	for range many {
		go func() {
			s, err := r.Iterate(t.Context(), &serverpb.IterateRequest{})
			if err == nil {
				_, err = s.Recv()
			}
			ended <- err
		}()
	}
	var all []kv.Place
	for range many {
		all = append(all, <-began)
	}
	conn, w := r.calls.conns()[0], r.calls.wire
	if limit := conn.take(w.perConnOut); limit != "" {
		t.Fatal(limit)
	}
	for _, p := range all {
		if !p.Crowded() {
			t.Fatal("it may read though nothing it makes can be sent")
		}
	}
	goOn()
	testkit.Eventually(t, "they wait, for their reader", func() bool {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return len(conn.queue) == many && all[0].(*call).stalled(time.Now().Add(time.Second)) >= time.Second
	})
	conn.give(w.perConnOut)
	for range many {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	r.drained()
}

// A stream that waits to begin ends with its client, and then it waits for nothing more.
func TestStreamsThatWaitToBeginEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &conn{calls: &calls{wire: newWire(64<<20, 1<<20)}}
		if limit := c.take(c.calls.wire.newConnOut); limit != "" {
			t.Fatal(limit)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		k := &call{Context: ctx, calls: c.calls, conn: c}
		done := make(chan error, 1)
		go func() { done <- k.AwaitRoom(ctx) }()
		synctest.Wait()
		cancel(errDrained)
		if err := <-done; err != errDrained || len(c.queue) != 0 || k.stalled(time.Now()) != 0 {
			t.Errorf("it ends with %v, and %d wait", err, len(c.queue))
		}
	})
}

// What waits finds room as soon as the client has taken enough, and not only when a whole response
// has been sent.
func TestRoomIsFoundWhileALargeResponseIsTaken(t *testing.T) {
	c := &conn{calls: &calls{wire: newWire(256<<20, 1<<20)}}
	if limit := c.take(4 * firstOut); limit != "" {
		t.Fatal(limit)
	}
	found := make(chan string)
	go func() { found <- c.await(t.Context(), countedFrom, nil) }()
	testkit.Eventually(t, "it waits", func() bool { return c.crowded() && c.takenSoFar() == 0 && c.waits() == 1 })
	c.sent(firstOut)
	if limit := <-found; limit != "" {
		t.Error(limit)
	}
}

// waits is how many responses wait.
func (c *conn) waits() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// A client that reads slowly, and did not leave anything before, is not refused what others get.
func TestSlowReaderInsists(t *testing.T) {
	c := &conn{calls: &calls{wire: newWire(256<<20, 1<<20)}}
	if limit := c.take(firstOut); limit != "" {
		t.Fatal(limit)
	}
	if limit := c.insist(1<<20, 0); limit != limitUnwritten {
		t.Errorf("a client that takes nothing finds room: %q", limit)
	}
	c.sent(1)
	if limit := c.insist(1<<20, 0); limit != "" {
		t.Error(limit)
	}
	if limit := c.insist(c.calls.wire.perConnOut, 0); limit != limitUnwritten {
		t.Errorf("it finds more room than any: %q", limit)
	}
}

// A stream waits for its turn once, also where something always waits behind it.
func TestStreamHasItsTurnOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &conn{calls: &calls{wire: newWire(64<<20, 1<<20)}}
		most := c.calls.wire.newConnOut
		if limit := c.take(most); limit != "" {
			t.Fatal(limit)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		k := &call{Context: ctx, calls: c.calls, conn: c}
		turn := make(chan error, 1)
		go func() { turn <- k.AwaitRoom(ctx) }()
		synctest.Wait()
		for range 3 {
			go c.await(ctx, c.calls.wire.perConnOut, nil)
		}
		synctest.Wait()
		c.give(1)
		if err := <-turn; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c.waits() == 0 || k.Crowded() {
			t.Errorf("%d wait behind it, and it has to wait again: %v", c.waits(), k.Crowded())
		}
	})
}
