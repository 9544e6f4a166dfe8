package slave

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

const (
	// arriving is how much has to arrive from a master, in the time that a message may take, for the wait
	// to go on: a large message on a slow line, which gRPC shows only when it is complete.
	arriving = 16 << 10
	// mostArriving bounds what may arrive before a message does. It is more than any message has: what
	// arrives then belongs to others that share the connection.
	mostArriving = 128 << 20
)

// watchdog ends a wait for a message during which nothing arrives.
type watchdog struct {
	timer *time.Timer
	// heard is how many bytes have arrived from the master, with those of other messages.
	heard func() uint64
	// end is called when the wait is over.
	end context.CancelCauseFunc
	// least is how long a message may take on a network that is not slow.
	least time.Duration

	mu sync.Mutex
	// patient is how long the next message may take.
	patient time.Duration
	// waiting: a message is awaited, since begun had arrived; last had when the timer was set.
	waiting     bool
	begun, last uint64
}

// newWatchdog begins a wait for the first message.
func newWatchdog(patient, least time.Duration, heard func() uint64, end context.CancelCauseFunc) *watchdog {
	w := &watchdog{heard: heard, end: end, patient: patient, least: least, waiting: true, begun: heard()}
	w.last = w.begun
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(patient, w.look)
	return w
}

// look ends the wait, unless enough has arrived since the last look.
func (w *watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.heard()
	switch {
	case !w.waiting:
	case now-w.last >= arriving && now-w.begun <= mostArriving:
		w.last = now
		w.timer.Reset(w.patient)
	default:
		w.end(errSilent)
	}
}

// recv reads the next message. Only this time counts: handling a message may take any
// time.
func (w *watchdog) recv(stream *peer.Stream, m any) error {
	began := time.Now()
	w.await()
	err := stream.Recv(m)
	w.stop()
	if err == nil {
		w.arrived(time.Since(began))
	}
	return err
}

// await begins the wait for a message.
func (w *watchdog) await() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = w.heard()
	w.last, w.waiting = w.begun, true
	w.timer.Reset(w.patient)
}

// arrived records how long a message took. The first one that comes in time resets a grown
// patience, so that a master that dies then is noticed as soon as any other.
func (w *watchdog) arrived(took time.Duration) {
	if took < w.least/2 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.patient = w.least
	}
}

// stop ends the wait.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	w.timer.Stop()
}

// pass passes a stretch on and reports whether it did; if not, the stream has ended. The watchdog
// may have ended it at the moment in which the message arrived, as it does when this process was
// paused: then the session has to end too, with an error, since nothing more is received.
func (w *watchdog) pass(ctx context.Context, st stretch, out chan<- stretch) (passed bool, err error) {
	select {
	case out <- st:
		return true, nil
	case <-ctx.Done():
		return false, w.explain(ctx, ctx.Err())
	}
}

// explain returns the error of a stream that ended with err.
func (w *watchdog) explain(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errSilent):
		return kv.Errorf(kv.Unavailable, "%w: %v", errSilent, w.patience())
	case ctx.Err() != nil:
		return nil // it was to end
	case errors.Is(err, io.EOF):
		return kv.Errorf(kv.Unavailable, "the master has closed the stream")
	}
	return err
}

// patience is how long the last message might take.
func (w *watchdog) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.patient
}
