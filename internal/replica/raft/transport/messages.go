package transport

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// GetConnection implements raftio.ITransport.
func (t *transport) GetConnection(ctx context.Context, target string) (raftio.IConnection, error) {
	l := &messageLine{t: t, ctx: ctx, target: target}
	if err := l.connect(); err != nil {
		return nil, err
	}
	return l, nil
}

// messageLine sends messages. It is used by one goroutine, and by one that sends what was held.
type messageLine struct {
	// outgoing and gone are replaced by the one goroutine, under mu.
	*outgoing
	t      *transport
	ctx    context.Context
	target string
	// gone is set when the other end has closed the connection, which the first write after
	// that would not show: its messages would be lost.
	gone *atomic.Bool

	mu     sync.Mutex
	closed bool
	buf    []byte
	hold   hold
	// timer sends what is held; nil until something was. frame is what its batch carries
	// besides messages, as that of owed.
	timer *time.Timer
	frame raftpb.MessageBatch
	owed  owed
}

// connect opens the connection.
func (l *messageLine) connect() error {
	conn, err := l.t.dial(l.ctx, l.target, forMessages)
	if err != nil {
		return err
	}
	gone := new(atomic.Bool)
	l.outgoing, l.gone = conn, gone
	go func() {
		_, _ = conn.Read(make([]byte, 1)) // nothing comes but its end
		gone.Store(true)
	}()
	return nil
}

// SendMessageBatch implements raftio.IConnection. What only says how far a log is committed may
// be held for a moment.
func (l *messageLine) SendMessageBatch(batch raftpb.MessageBatch) error {
	if l.t.opts.Seen != nil {
		for i := range batch.Requests {
			l.t.opts.Seen(&batch.Requests[i])
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	held := len(l.hold.held) > 0
	requests := l.hold.take(time.Now(), batch.Requests)
	defer l.hold.sent()
	if now := len(l.hold.held) > 0; now && !held {
		l.frame = batch
		l.frame.Requests = nil
		l.wake(holdTime)
	} else if held && !now {
		l.timer.Stop()
	}
	if len(requests) == 0 {
		return nil
	}
	// A connection that the other end has closed, since it was started again, is opened again.
	if l.gone.Load() {
		if l.ctx.Err() != nil {
			return net.ErrClosed
		}
		l.outgoing.Close()
		if err := l.connect(); err != nil {
			return err
		}
	}
	batch.Requests = requests
	return l.send(batch)
}

// wake has what is held be sent after a while, unless it goes with something else before.
func (l *messageLine) wake(after time.Duration) {
	if l.timer == nil {
		l.timer = time.AfterFunc(after, l.release)
	} else {
		l.timer.Reset(after)
	}
}

// release sends what was held for as long as it may be.
func (l *messageLine) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	late, left := l.hold.overdue(time.Now())
	if left > 0 {
		l.wake(left)
	}
	l.late(late)
}

// late sends what did not go with anything else.
func (l *messageLine) late(late []raftpb.Message) {
	if len(late) == 0 || l.gone.Load() { // Raft says it again
		return
	}
	batch := l.frame
	batch.Requests = late
	if l.send(batch) != nil {
		// A part of it may have gone out. The next message finds the connection closed.
		_ = l.Conn.Close()
	}
}

// send writes messages.
func (l *messageLine) send(batch raftpb.MessageBatch) error {
	l.takeBack(batch)
	l.t.full.calm(batch)
	frame := reserve(l.buf, batch.SizeUpperLimit())
	if cap(frame) <= keepBuffer+headerSize {
		l.buf = frame
	}
	n, err := batch.MarshalTo(frame[headerSize:])
	if err != nil {
		return err
	}
	frame = frame[:headerSize+n]
	if err := seal(frame, batchFrame); err != nil {
		return err
	}
	return writeAll(l.Conn, frame, l.t.opts.limits.step)
}

// Close implements raftio.IConnection.
func (l *messageLine) Close() {
	l.outgoing.Close() // ends a write that holds mu
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, timer := range []*time.Timer{l.timer, l.owed.timer} {
		if timer != nil {
			timer.Stop()
		}
	}
}
