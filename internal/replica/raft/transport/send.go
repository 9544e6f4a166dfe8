package transport

import (
	"context"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// GetSnapshotConnection implements raftio.ITransport.
func (t *transport) GetSnapshotConnection(ctx context.Context, target string) (raftio.ISnapshotConnection, error) {
	conn, err := t.dial(ctx, target, forSnapshot)
	if err != nil {
		return nil, err
	}
	return &snapshotLine{outgoing: conn, t: t, target: target, answers: framesOf(conn.Conn, t.opts.limits.step)}, nil
}

// snapshotLine sends one snapshot. It is used by one goroutine.
type snapshotLine struct {
	*outgoing
	t       *transport
	target  string
	answers *frames
	buf     []byte
}

// SendChunk implements raftio.ISnapshotConnection. It returns from the first chunk when
// the receiver has found that it has room, and from the last one when the receiver has
// the whole. An error has Dragonboat tell Raft that the snapshot was rejected.
func (l *snapshotLine) SendChunk(chunk raftpb.Chunk) error {
	if err := l.send(&chunk); err != nil {
		return fmt.Errorf("snapshot of shard %d for replica %d at %s: %w", chunk.ShardID, chunk.ReplicaID, l.target, err)
	}
	return nil
}

func (l *snapshotLine) send(chunk *raftpb.Chunk) error {
	if chunk.ChunkId == 0 {
		if err := l.offer(chunk); err != nil {
			return err
		}
	}
	l.buf = reserve(l.buf, chunk.Size())
	n, err := chunk.MarshalTo(l.buf[headerSize:])
	if err != nil {
		return err
	}
	frame := l.buf[:headerSize+n]
	if err := seal(frame, chunkFrame); err != nil {
		return err
	}
	if err := writeAll(l.Conn, frame, l.t.opts.limits.step); err != nil {
		// It may have said why it takes no more.
		if refused := l.verdict(time.Second); refused != nil {
			return refused
		}
		return err
	}
	if chunk.IsLastChunk() {
		return l.verdict(l.t.opts.limits.answer)
	}
	return nil
}

// offer says what is about to come, and waits until the receiver wants it.
func (l *snapshotLine) offer(chunk *raftpb.Chunk) error {
	s := Snapshot{Shard: chunk.ShardID, Replica: chunk.ReplicaID, From: chunk.From, Index: chunk.Index, Size: chunk.FileSize}
	if l.t.opts.Size != nil && s.Size == 0 {
		s.Size = l.t.opts.Size(s.Shard)
	}
	frame := s.encode(make([]byte, headerSize, headerSize+offerSize))
	if err := seal(frame, offerFrame); err != nil {
		return err
	}
	if err := writeAll(l.Conn, frame, l.t.opts.limits.step); err != nil {
		return err
	}
	return l.verdict(l.t.opts.limits.answer)
}

// verdict returns why the receiver refuses.
func (l *snapshotLine) verdict(patience time.Duration) error {
	p, err := l.answers.next(verdictFrame, patience)
	if err != nil {
		return fmt.Errorf("the receiver says nothing: %w", err)
	}
	refused, err := decodeVerdict(p)
	if err != nil {
		return err
	}
	if refused != nil {
		return fmt.Errorf("refused: %w", refused)
	}
	return nil
}
