package replication

import (
	"context"
	"encoding/base64"
	"errors"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/compress"
	"github.com/dkvdb/dkv/internal/crc"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
)

// snapshotChunkBytes is what a chunk holds, unless a single pair is larger.
const snapshotChunkBytes = 1 << 20

// StreamSnapshot implements DKVReplication. Each chunk is read after the one before it was
// sent; only the state itself is held in between.
func (s *Service) StreamSnapshot(r *serverpb.StreamSnapshotRequest, stream grpc.ServerStreamingServer[serverpb.SnapshotChunk]) error {
	v, err := s.keyspace.Named(r.GetVBucket())
	if err != nil {
		return err
	}
	snap, err := s.snapshot(stream.Context(), v, r)
	if err != nil {
		return err
	}
	defer s.snapshots.leave(snap)
	share := share{of: &s.transit}
	defer share.end()
	position, chunk := r.GetPosition(), snap.about()
	kv.PlaceOf(stream.Context()).Resumable(func() kv.Resume {
		return kv.Resume{kv.ResumeSnapshot: snap.id, kv.ResumePosition: base64.StdEncoding.EncodeToString(position)}
	})
	for {
		if err := s.makeChunk(stream.Context(), snap, position, chunk, &share); err != nil {
			return err
		}
		chunk.Checksum = crc.Sum(chunk.GetData())
		if packed := packed(r, chunk); packed != nil {
			chunk.Data, chunk.ZstdData, chunk.Checksum = nil, packed, crc.Sum(packed)
		}
		if err := s.sendChunk(stream, snap, chunk); err != nil {
			return err
		}
		share.left()
		s.followers.lives(r.GetReplica(), v.Name)
		if len(chunk.GetPosition()) == 0 {
			return nil
		}
		position, chunk = chunk.GetPosition(), &serverpb.SnapshotChunk{SnapshotId: snap.id}
	}
}

// packed is a chunk's data compressed; nil if it is to be sent as it is.
func packed(r *serverpb.StreamSnapshotRequest, chunk *serverpb.SnapshotChunk) []byte {
	if !r.GetAcceptZstd() {
		return nil
	}
	return compress.Encode(chunk.GetData())
}

// leastChunks and mostChunks are how many chunks are being made at once, one for each processor in
// between: each keeps a thread busy. Until a chunk is there no limit has seen how large it is, and a
// single pair may be larger than all of a chunk should be.
const leastChunks, mostChunks = 2, 8

func newMaking(processors int) *fair.Gate {
	return fair.New(min(max(leastChunks, processors), mostChunks))
}

// makeChunk reads the chunk at a position.
func (s *Service) makeChunk(ctx context.Context, snap *snapshot, position []byte, into *serverpb.SnapshotChunk, share *share) (err error) {
	if err := s.making.Enter(ctx, kv.PlaceOf(ctx).Client()); err != nil {
		return err
	}
	defer s.making.Leave()
	if ctx.Err() != nil { // a client that begins streams and cancels them at once costs no reads
		return context.Cause(ctx)
	}
	if into.Data, into.Position, err = snap.view.Chunk(position, share.take(snapshotChunkBytes)); err != nil {
		return replica.ReadError(err)
	}
	share.holds(2 * int64(len(into.GetData()))) // and encoded
	return nil
}

var errEvicted = kv.Errorf(kv.Unavailable, "the snapshot was given up, because it kept storage from being reopened; begin a new one")

// sendChunk sends a chunk, unless the snapshot is given up. If the receiver has stopped reading,
// the server ends the stream.
func (s *Service) sendChunk(stream grpc.ServerStreamingServer[serverpb.SnapshotChunk], snap *snapshot, chunk *serverpb.SnapshotChunk) error {
	sent := make(chan error, 1)
	// This goroutine ends with the call at the latest, and that with the handler.
	go func() { sent <- stream.Send(chunk) }()
	select {
	case err := <-sent:
		return err
	case <-snap.evicted:
		return errEvicted
	case <-stream.Context().Done():
		return context.Cause(stream.Context())
	}
}

// snapshot returns the snapshot that a request resumes, or begins a new one.
func (s *Service) snapshot(ctx context.Context, v route.VBucket, r *serverpb.StreamSnapshotRequest) (*snapshot, error) {
	if r.GetSnapshotId() != "" {
		return s.snapshots.resume(r.GetSnapshotId(), v.Name)
	}
	if len(r.GetPosition()) > 0 {
		return nil, kv.Errorf(kv.Invalid, "a position is one of a snapshot; name it in snapshotId, or leave out the position to begin a new one")
	}
	view, _, err := v.View(ctx, kv.ReadOptions{})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(complete(view), withheld(v)); err != nil {
		view.Close()
		return nil, err
	}
	u := v.Usage()
	return s.snapshots.begin(v.Name, view, u.Size())
}

// withheld returns why a replica's state may not be copied now; nil if it may.
func withheld(v route.VBucket) error {
	if w, is := v.Replica.(interface{ Withheld() error }); is {
		return w.Withheld()
	}
	return nil
}

// complete returns an error for a state that a follower could not start from.
func complete(view replica.View) error {
	if view.Identity().History == "" {
		return errUnnamed
	}
	restoring, err := view.Restoring()
	switch {
	case err != nil:
		return replica.ReadError(err)
	case restoring:
		return kv.Errorf(kv.Unavailable, "a restore is under way, which will begin a new history; retry when it is done")
	default:
		return nil
	}
}
