package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// turn is a request whose body and answer are held as a whole, while it has one of the places of
// its kind. The body may come slowly, and the answer may not be taken: when others need the place,
// the wait for the client ends.
type turn struct {
	*http.Request
	w      http.ResponseWriter
	cancel context.CancelCauseFunc

	mu   sync.Mutex
	now  phase
	over bool // it has lost its place
}

// phase is what a turn waits for: for its body, for what serves it, or for its answer to be taken.
type phase int

const (
	receiving phase = iota
	serving
	answering
)

// lastAnswer is the time for the answer to a request that has lost its place while it was served.
const lastAnswer = time.Second

// begin takes a place for a request; leave gives it back.
func (r *places) begin(w http.ResponseWriter, request *http.Request) (t *turn, leave func(), err error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	t = &turn{Request: request.WithContext(ctx), w: w, cancel: cancel}
	place := r.take(callerName(request), t.end)
	if place == nil {
		cancel(nil)
		w.Header().Set("Retry-After", "1")
		return nil, nil, &Error{Status: http.StatusTooManyRequests, Text: fmt.Sprintf("%d calls for keys are under way over HTTP, which is the limit: retry later, or use gRPC", r.most)}
	}
	return t, func() { r.leave(place); cancel(nil) }, nil
}

// errMadeRoom ends a request that has lost its place.
var errMadeRoom = &Error{Status: http.StatusTooManyRequests, Text: "too many calls for keys are under way over HTTP, and this one made room for one of another caller: retry later, or use gRPC"}

// end ends the wait for the client. What is being written goes on: it would be unknown what has
// become of it.
func (t *turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	switch {
	case t.now == receiving:
		_ = http.NewResponseController(t.w).SetReadDeadline(time.Unix(1, 0))
	case t.now == answering:
		dropAnswer(t.w)
	case t.Method == http.MethodGet:
		t.cancel(errMadeRoom)
		dropAnswer(t.w) // it may be relayed already
	}
}

// receive reads the body, of up to most bytes, unless the request loses its place meanwhile.
func (t *turn) receive(most int64) error {
	if err := whole(t.w, t.Request, most); err != nil {
		return t.why(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = serving
	if t.over {
		return errMadeRoom
	}
	return nil
}

// answer says that the request was served.
func (t *turn) answer() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now = answering; t.over {
		setWriteDeadline(t.w, lastAnswer)
	}
}

// why is the error of a request that has failed: that it has lost its place, if that is the cause.
func (t *turn) why(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.over && (t.now == receiving || errors.Is(context.Cause(t.Context()), errMadeRoom)) {
		return errMadeRoom
	}
	return err
}
