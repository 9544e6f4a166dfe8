package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/internal/kv"
)

// Sending is the end of a stream that calls are sent by.
type Sending interface {
	SendMsg(m any) error
	RecvMsg(m any) error
	CloseSend() error
}

// Call is a unary call that is forwarded.
type Call struct {
	// Method is its full name.
	Method  string
	Request proto.Message
	// Caller is the metadata that says whose call it is, names and values in turn, and
	// VBuckets name what it is about.
	Caller, VBuckets []string
	// Client is on whose behalf it is made; the zero Client is this node.
	Client kv.Client
	// Moved reports whether another node is to be asked by now: it ends the wait for the
	// answer. Nil waits for the answer in any case.
	Moved func() bool
}

// Reply is what a call was answered: a response or a google.rpc.Status, encoded. If the
// response is too large for the stream it is neither, and the call has to be sent alone.
type Reply struct {
	Response, Status []byte
	TooLarge         bool
}

var (
	// ErrNotTaken: the line did not take the call, of which nothing was sent.
	ErrNotTaken = errors.New("the stream of forwarded calls takes no further one")
	// ErrMoved: the wait has ended because of Call.Moved.
	ErrMoved = errors.New("another node owns the log by now")
	// ErrUnsent: the call's context had ended before anything was sent.
	ErrUnsent = errors.New("the call was not sent")
	// ErrBroken: the stream ended before the answer.
	ErrBroken = errors.New("the stream of forwarded calls broke before the answer")
)

const (
	// maxWaiting bounds the calls of a line that wait for answers. Further ones are sent
	// alone, each as a call of its own.
	maxWaiting = 4096
	// movedPoll is how often Moved is asked.
	movedPoll = 50 * time.Millisecond
	// idle is after how long without calls a line ends, and maxAge when it ends in any case:
	// calls then follow the connections, which are replaced from time to time.
	idle   = 30 * time.Second
	maxAge = 10 * time.Minute
)

// Line sends calls over a stream. Its methods are safe for concurrent use.
type Line struct {
	stream Sending
	out    *outbox
	// maxMessage and maxRequest are the receiver's bounds.
	maxMessage, maxRequest int
	begun                  time.Time

	// Under out.mu. waiting are the calls without an answer, and last is the id of the last
	// call. closing: no further calls are taken. used: there was a call since the last look.
	waiting map[uint64]*waiter
	last    uint64
	closing bool
	used    bool
	// free are waiters to use again.
	free []*waiter
}

// waiter is a call that waits for its answer.
type waiter struct {
	answered chan answer
	moved    func() bool // Call.Moved
}

// Open waits for the receiver's limits, which show that it serves the stream, and returns the
// line. Without an error the caller runs it.
func Open(stream Sending) (*Line, error) {
	var first Message
	if err := stream.RecvMsg(&first); err != nil {
		return nil, err
	}
	l := &Line{stream: stream, out: newOutbox(), begun: time.Now(), waiting: make(map[uint64]*waiter)}
	err := fields(first.data, func(field protowire.Number, n uint64, _ []byte) {
		switch field {
		case fieldMaxMessage:
			l.maxMessage = int(min(n, maxMessage))
		case fieldMaxRequest:
			l.maxRequest = int(min(n, maxRequest))
		}
	})
	return l, err
}

// Run sends calls and receives answers until the stream has ended. It returns nil if that was
// meant. retired is called when the line takes no further calls, which may be before, and
// cancel to end a stream that cannot go on.
func (l *Line) Run(retired, cancel func()) error {
	var others sync.WaitGroup
	ended := make(chan struct{})
	others.Go(func() { l.send(retired) })
	others.Go(func() { l.watch(ended) })
	err := l.receive()
	cancel()
	l.retire()
	l.out.end()
	close(ended)
	others.Wait()
	l.out.mu.Lock()
	left := l.waiting
	l.waiting = nil
	l.out.mu.Unlock()
	for _, w := range left {
		close(w.answered)
	}
	if errors.Is(err, io.EOF) && len(left) == 0 {
		return nil
	}
	return err
}

// retire has the line take no further calls.
func (l *Line) retire() {
	l.out.mu.Lock()
	l.closing = true
	l.out.mu.Unlock()
	l.out.wake()
}

// send sends what was collected, until the line is retired and all of it is sent, or until
// the stream has ended.
func (l *Line) send(retired func()) {
	defer retired()
	look := time.NewTicker(idle)
	defer look.Stop()
	for {
		select {
		case <-l.out.ready:
			l.out.gather()
		case now := <-look.C:
			l.rest(now)
		}
		l.out.mu.Lock()
		closing, ended := l.closing, l.out.ended // before take: what came before is sent
		l.out.mu.Unlock()
		if ended {
			return
		}
		if message := l.out.take(); message != nil {
			if l.stream.SendMsg(&Message{message}) != nil {
				return // receive returns the reason
			}
		}
		if closing {
			_ = l.stream.CloseSend() // receive finds out if that fails
			return
		}
	}
}

// rest retires a line that has had no calls since the last look, or is old.
func (l *Line) rest(now time.Time) {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	if !l.used && len(l.waiting) == 0 || now.Sub(l.begun) >= maxAge {
		l.closing = true
	}
	l.used = false
}

// receive hands answers to those that wait for them, until the stream has ended.
func (l *Line) receive() error {
	for {
		var m Message
		if err := l.stream.RecvMsg(&m); err != nil {
			return err
		}
		var malformed error
		err := fields(m.data, func(field protowire.Number, n uint64, data []byte) {
			switch field {
			case fieldElement:
				a, err := parseAnswer(data)
				if err != nil {
					malformed = err
					return
				}
				l.answered(a)
			case fieldClosing:
				l.retire()
			}
		})
		if err := errors.Join(err, malformed); err != nil {
			return err
		}
	}
}

func (l *Line) answered(a answer) {
	l.out.mu.Lock()
	w := l.waiting[a.id]
	delete(l.waiting, a.id)
	l.out.mu.Unlock()
	if w != nil { // its caller waits still
		w.answered <- a
	}
}

// watch has those wait no longer for whom another node is to be asked, until ended is closed.
func (l *Line) watch(ended <-chan struct{}) {
	look := time.NewTicker(movedPoll)
	defer look.Stop()
	var waiting []asked
	for {
		select {
		case <-look.C:
		case <-ended:
			return
		}
		waiting = l.asking(waiting[:0])
		for _, a := range waiting {
			if a.moved() {
				l.giveUp(a.id)
			}
		}
		clear(waiting)
	}
}

// asked is a call whose owner is compared.
type asked struct {
	id    uint64
	moved func() bool
}

// asking appends the calls that wait only as long as no other node is to be asked.
func (l *Line) asking(to []asked) []asked {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	for id, w := range l.waiting {
		if w.moved != nil {
			to = append(to, asked{id, w.moved})
		}
	}
	return to
}

// giveUp ends the wait of a call for its answer.
func (l *Line) giveUp(id uint64) {
	if w := l.forget(id); w != nil {
		w.answered <- answer{moved: true}
	}
}

// Call makes a call and waits for its answer. Its errors are ErrNotTaken, ErrUnsent, ErrBroken, ErrMoved,
// that of a request that cannot be encoded, and the cause of a context that ends.
func (l *Line) Call(ctx context.Context, c *Call) (Reply, error) {
	w, id, err := l.add(ctx, c)
	if err != nil {
		return Reply{}, err
	}
	l.out.wake()
	select {
	case a, arrived := <-w.answered:
		return l.reply(w, a, arrived)
	case <-ctx.Done():
		return l.leave(w, id, context.Cause(ctx))
	}
}

func (l *Line) reply(w *waiter, a answer, arrived bool) (Reply, error) {
	if !arrived {
		return Reply{}, ErrBroken
	}
	l.release(w)
	if a.moved {
		return Reply{}, ErrMoved
	}
	return Reply{Response: a.response, Status: a.status, TooLarge: a.tooLarge}, nil
}

// add appends a call to the next message.
func (l *Line) add(ctx context.Context, c *Call) (*waiter, uint64, error) {
	if ctx.Err() != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrUnsent, context.Cause(ctx))
	}
	var timeout time.Duration
	if deadline, limited := ctx.Deadline(); limited {
		if timeout = time.Until(deadline); timeout <= 0 { // its timer has not fired yet
			return nil, 0, fmt.Errorf("%w: %w", ErrUnsent, context.DeadlineExceeded)
		}
	}
	if proto.Size(c.Request) > l.maxRequest {
		return nil, 0, ErrNotTaken
	}
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	if l.closing || l.waiting == nil || len(l.waiting) >= maxWaiting {
		return nil, 0, ErrNotTaken
	}
	message, err := appendCall(l.out.begin(), l.last+1, c, timeout)
	switch { // what was appended is overwritten
	case err != nil:
		return nil, 0, err
	case len(message) > l.maxMessage:
		return nil, 0, ErrNotTaken
	}
	l.out.message = message
	l.last++
	l.used = true
	w := l.waiter()
	w.moved = c.Moved
	l.waiting[l.last] = w
	return w, l.last, nil
}

// leave ends the wait for an answer, unless it has just arrived.
func (l *Line) leave(w *waiter, id uint64, why error) (Reply, error) {
	if l.forget(id) == nil {
		a, arrived := <-w.answered
		return l.reply(w, a, arrived)
	}
	l.release(w)
	return Reply{}, why
}

// forget takes back a call whose answer no one waits for any more. It returns nil if that
// has arrived.
func (l *Line) forget(id uint64) *waiter {
	l.out.mu.Lock()
	w := l.waiting[id]
	if w != nil {
		delete(l.waiting, id)
		if !l.out.ended && !l.closing {
			l.out.message = appendCancel(l.out.begin(), id)
		}
	}
	l.out.mu.Unlock()
	l.out.wake()
	return w
}

// waiter returns one for a call. The caller holds out.mu.
func (l *Line) waiter() *waiter {
	n := len(l.free)
	if n == 0 {
		return &waiter{answered: make(chan answer, 1)}
	}
	w := l.free[n-1]
	l.free = l.free[:n-1]
	return w
}

// release keeps a waiter that no answer can reach any more.
func (l *Line) release(w *waiter) {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	w.moved = nil
	l.free = append(l.free, w)
}
