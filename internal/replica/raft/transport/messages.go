package transport

import (
	"context"
	"net"
	"sync/atomic"

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

// messageLine sends messages. It is used by one goroutine.
type messageLine struct {
	*outgoing
	t      *transport
	ctx    context.Context
	target string
	// gone is set when the other end has closed the connection, which the first write after
	// that would not show: its messages would be lost.
	gone *atomic.Bool
	buf  []byte
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

// SendMessageBatch implements raftio.IConnection. A connection that the other end has closed,
// since it was started again, is opened again.
func (l *messageLine) SendMessageBatch(batch raftpb.MessageBatch) error {
	if l.gone.Load() {
		if l.ctx.Err() != nil {
			return net.ErrClosed
		}
		l.Close()
		if err := l.connect(); err != nil {
			return err
		}
	}
	if l.t.opts.Seen != nil {
		for i := range batch.Requests {
			l.t.opts.Seen(&batch.Requests[i])
		}
	}
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
