package transport

import (
	"context"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// GetConnection implements raftio.ITransport.
func (t *transport) GetConnection(ctx context.Context, target string) (raftio.IConnection, error) {
	conn, err := t.dial(ctx, target, forMessages)
	if err != nil {
		return nil, err
	}
	return &messageLine{outgoing: conn, t: t}, nil
}

// messageLine sends messages. It is used by one goroutine.
type messageLine struct {
	*outgoing
	t   *transport
	buf []byte
}

// SendMessageBatch implements raftio.IConnection.
func (l *messageLine) SendMessageBatch(batch raftpb.MessageBatch) error {
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
