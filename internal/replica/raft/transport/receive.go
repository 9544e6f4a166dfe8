package transport

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// takeSnapshot takes the one snapshot that a connection is for, or says why not.
func (t *transport) takeSnapshot(c net.Conn, f *frames) error {
	p, err := f.next(offerFrame, t.opts.limits.step)
	if err != nil {
		return err
	}
	s, err := decodeOffer(p)
	if err != nil {
		return err
	}
	admission, err := t.admit(s)
	if err != nil {
		t.refuse(c, err)
		return nil
	}
	if err := t.say(c, nil); err != nil {
		admission.Done(false)
		return err
	}
	in := incoming{t: t, of: s, admission: admission}
	cause := in.take(f)
	in.end(cause)
	if cause != nil {
		t.opts.Log.Warn("a snapshot did not arrive as a whole", "shard", s.Shard, "from", s.From, "index", s.Index, "error", cause)
		t.refuse(c, cause)
		return nil
	}
	return t.say(c, nil)
}

func (t *transport) admit(s Snapshot) (Admission, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.opts.limits.room)
	defer cancel()
	return t.opts.Snapshots.Admit(ctx, s)
}

// say tells the sender what becomes of its snapshot.
func (t *transport) say(c net.Conn, refused error) error {
	frame := encodeVerdict(make([]byte, headerSize, 1<<10), refused)
	if err := seal(frame, verdictFrame); err != nil {
		return err
	}
	return writeAll(c, frame, t.opts.limits.step)
}

// drain is how long what a sender has under way is read and dropped: closing the
// connection before that could take the reason away from it.
const drain = time.Second

// refuse tells the sender why, and waits until it has closed the connection.
func (t *transport) refuse(c net.Conn, why error) {
	if t.say(c, why) != nil || c.SetReadDeadline(time.Now().Add(drain)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c)
}

// incoming is a snapshot that is being taken.
type incoming struct {
	t         *transport
	of        Snapshot
	admission Admission
	// chunks have been handed over, the last of them was last.
	chunks uint64
	last   raftpb.Chunk
}

// take hands chunks over until the last one.
func (in *incoming) take(f *frames) error {
	for {
		// A chunk is made from what the sender reads no faster than it may.
		p, err := f.next(chunkFrame, in.t.opts.limits.idle)
		if err != nil {
			return err
		}
		chunk, err := decodeChunk(p)
		if err == nil {
			err = in.check(&chunk)
		}
		if err == nil {
			err = in.admission.More(len(chunk.Data))
		}
		if err == nil {
			err = in.hand(chunk)
		}
		if err != nil || chunk.IsLastChunk() {
			return err
		}
	}
}

// decodeChunk decodes a chunk, which keeps nothing of p.
func decodeChunk(p []byte) (chunk raftpb.Chunk, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("a chunk of a snapshot cannot be decoded: %v", cause)
		}
	}()
	if err := chunk.Unmarshal(p); err != nil {
		return raftpb.Chunk{}, fmt.Errorf("a chunk of a snapshot cannot be decoded: %w", err)
	}
	return chunk, nil
}

// check returns an error for a chunk that is not the next one of the snapshot.
func (in *incoming) check(chunk *raftpb.Chunk) error {
	s := &in.of
	if chunk.DeploymentId != in.t.deployment || chunk.BinVer != raftio.TransportBinVersion {
		return fmt.Errorf("a chunk is for deployment %016x and version %d", chunk.DeploymentId, chunk.BinVer)
	}
	if chunk.ShardID != s.Shard || chunk.ReplicaID != s.Replica || chunk.From != s.From || chunk.Index != s.Index {
		return fmt.Errorf("a chunk is of another snapshot (shard %d, replica %d, from %d, index %d)", chunk.ShardID, chunk.ReplicaID, chunk.From, chunk.Index)
	}
	if chunk.ChunkId != in.chunks || chunk.IsPoisonChunk() {
		return fmt.Errorf("chunk %d came when %d was expected", chunk.ChunkId, in.chunks)
	}
	// A state is one file; that others are beside it is not provided for.
	if name := filepath.Base(chunk.Filepath); chunk.HasFileInfo || chunk.Witness || !strings.HasPrefix(name, "snapshot-") {
		return fmt.Errorf("a chunk is of %q, which is not a snapshot's file", name)
	}
	return nil
}

// hand gives a chunk to Dragonboat, which writes it. What fails there, for want of space
// or of file descriptors or because the disk is broken, it panics for, which would take
// down all vBuckets of the process; nothing depends on a snapshot that is not whole, so it
// is refused instead. Dragonboat holds no lock then.
func (in *incoming) hand(chunk raftpb.Chunk) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("it cannot be stored: %v", cause)
		}
	}()
	in.last = chunk
	in.last.Data = nil
	in.chunks++
	if !in.t.chunks(chunk) {
		return fmt.Errorf("chunk %d was not taken (see the log)", chunk.ChunkId)
	}
	return nil
}

// end tells who has to know that no more chunks come. What has come of a snapshot that is
// not whole takes up room until Dragonboat is given an end of it that does not fit: by
// itself it would keep it for a quarter of an hour. The true end is empty, so that an empty
// one would complete what lacks no more than that, though the sender was told otherwise.
func (in *incoming) end(cause error) {
	defer in.admission.Done(cause == nil)
	if cause == nil || in.chunks == 0 || in.last.IsLastChunk() {
		return
	}
	chunk := in.last
	chunk.ChunkId, chunk.FileChunkId = in.chunks, in.chunks
	chunk.ChunkCount, chunk.FileChunkCount = raftpb.LastChunkCount, raftpb.LastChunkCount
	chunk.Data = make([]byte, 16)
	chunk.ChunkSize = uint64(len(chunk.Data))
	_ = in.hand(chunk)
}
