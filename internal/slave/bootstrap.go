package slave

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/crc"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/storage"
)

// snapshot is a snapshot that is being loaded.
type snapshot struct {
	*session
	grant grant
	// open opens the engine of the new state, which loader fills; both are nil before the
	// first chunk.
	open     func() (storage.Engine, error)
	loader   *chunks.Loader
	id       string
	position []byte
	progress Progress
	reported time.Time
	whole    bool
}

// bootstrap builds the state from a snapshot of the master that g admits. The present
// state stays until the new one is complete.
func (s *session) bootstrap(ctx context.Context, g grant) error {
	if g.aside {
		if err := s.setAside(ctx); err != nil {
			return err
		}
	}
	s.status.bootstrapping(s.source.Address)
	begun := time.Now()
	if s.first("bootstrap" + s.source.Address) { // not again at each attempt
		s.log.Info("bootstrapping from a snapshot", "master", s.source.Address)
	}
	snap := &snapshot{session: s, grant: g, reported: begun}
	var failure error // of the connection or the master
	err := s.replace(ctx, g, func(ctx context.Context, open func() (storage.Engine, error)) error {
		snap.open = open
		failure = snap.load(ctx)
		return failure
	})
	if errors.Is(err, storage.ErrNoSpace) {
		// More with each attempt: an engine may take more than what is sent.
		s.needs = max(2*s.needs, snap.progress.Size, snap.progress.Bytes+snap.progress.Bytes/4, s.opts.State.Size())
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil && g.older && !s.isOrdered():
		return errWithdrawn
	case err != nil && failure != nil:
		return failure
	case err != nil:
		return localError{fmt.Errorf("bootstrap: %w", err)}
	}
	s.needs, s.setback = 0, 0
	s.status.bootstrapped()
	s.moved()
	s.recovered()
	s.search.reset()
	_, at := s.opts.State.Position()
	took := time.Since(begun)
	s.Puller.loaded = loaded{at: at, took: took}
	s.log.Info("bootstrapped", "master", s.source.Address, "index", at, "bytes", snap.progress.Bytes, "took", took.Round(time.Millisecond))
	return nil
}

// replace replaces the present state as g admits. An order that is withdrawn ends it.
func (s *session) replace(ctx context.Context, g grant, load func(context.Context, func() (storage.Engine, error)) error) error {
	if !g.older {
		return s.opts.State.Replace(ctx, g.any || g.aside, load)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.rebuilding.Store(&cancel)
	defer s.rebuilding.Store(nil)
	return s.opts.State.ReplaceAsOrdered(ctx, load)
}

const (
	// resumeFor is how long a broken stream is retried without progress; masters keep a
	// snapshot for a minute.
	resumeFor   = 20 * time.Second
	resumePause = 200 * time.Millisecond
	// progressInterval is how often the progress is logged.
	progressInterval = 5 * time.Second
)

// load loads the whole snapshot. A stream that breaks is resumed.
func (s *snapshot) load(ctx context.Context) error {
	last := time.Now()
	for {
		before := s.progress.Bytes
		err := s.stream(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			return s.finish()
		case errors.Is(err, errNoRoom):
			if !s.awaitRoom(ctx) {
				return context.Cause(ctx)
			}
			last = time.Now()
			continue
		case !s.resumable(err):
			return err
		}
		if s.progress.Bytes > before {
			last = time.Now()
		}
		if time.Since(last) > resumeFor {
			return err
		}
		s.report("the snapshot's stream broke; resuming it", err, "master", s.source.Address)
		if !sleep.For(ctx, resumePause) {
			return context.Cause(ctx)
		}
	}
}

// errDamaged means that a chunk was damaged in transit.
var errDamaged = errors.New("a chunk of the snapshot fails its checksum")

// resumable reports whether the snapshot can be resumed after an error.
func (s *snapshot) resumable(err error) bool {
	var local localError
	if s.id == "" || errors.As(err, &local) {
		return false
	}
	return errors.Is(err, errDamaged) || kv.KindOf(err) == kv.Unavailable
}

func (s *snapshot) finish() error {
	err := s.loader.Finish()
	if err != nil && !errors.Is(err, chunks.ErrBadSnapshot) {
		return localError{err}
	}
	return err
}

// waitingChunks is the number of chunks that may wait to be loaded.
const waitingChunks = 4

// stream loads the chunks from the present position to the last one.
func (s *snapshot) stream(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	in, failed := make(chan *serverpb.SnapshotChunk, waitingChunks), make(chan error, 1)
	received := make(chan struct{})
	defer func() { stop(nil); <-received }()
	go func() {
		defer close(received)
		failed <- s.receiveChunks(ctx, stop, in)
	}()
	for {
		select {
		case chunk, more := <-in:
			if !more {
				return <-failed
			}
			if err := s.add(ctx, chunk); err != nil {
				return err
			}
			if s.whole {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// receiveChunks sends the chunks that arrive to out, and closes it after the last.
func (s *snapshot) receiveChunks(ctx context.Context, stop context.CancelCauseFunc, out chan<- *serverpb.SnapshotChunk) error {
	defer close(out)
	quiet := newWatchdog(snapshotPatience*s.patience.length(), snapshotPatience*minPatience, s.peer.Heard, stop)
	defer quiet.stop()
	stream, err := s.peer.Stream(ctx, serverpb.DKVReplication_StreamSnapshot_FullMethodName, &serverpb.StreamSnapshotRequest{
		VBucket:    s.opts.VBucket,
		SnapshotId: s.id,
		Position:   s.position,
		Replica:    s.opts.Self,
		AcceptZstd: s.shrinks(),
	})
	for err == nil {
		chunk := new(serverpb.SnapshotChunk)
		if err = quiet.recv(stream, chunk); err != nil {
			break
		}
		select {
		case out <- chunk:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err = quiet.explain(ctx, err); err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// snapshotPatience is how much longer a snapshot's stream may be silent than a stream of
// changes, which has heartbeats.
const snapshotPatience = 4

// add loads one chunk.
func (s *snapshot) add(ctx context.Context, chunk *serverpb.SnapshotChunk) error {
	sent := chunk.GetData()
	if packed := chunk.GetZstdData(); len(packed) > 0 {
		sent = packed
	}
	if crc.Sum(sent) != chunk.GetChecksum() {
		return fmt.Errorf("%w (after %d bytes)", errDamaged, s.progress.Bytes)
	}
	data, err := s.dataOf(chunk)
	if err != nil {
		return err
	}
	if s.id == "" {
		if err := s.meet(chunk); err != nil {
			return err
		}
	}
	if chunk.GetSnapshotId() != s.id {
		return kv.Errorf(kv.Internal, "the master continued with snapshot %.64q instead of %.64q", chunk.GetSnapshotId(), s.id)
	}
	if err := s.room(uint64(len(data))); err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	switch err := s.loader.Add(data); {
	case errors.Is(err, chunks.ErrBadSnapshot):
		return err
	case err != nil:
		return localError{err}
	}
	s.position = chunk.GetPosition()
	s.whole = len(s.position) == 0
	s.progress.Bytes += uint64(len(data))
	s.status.loaded(s.progress, len(data))
	s.tell()
	return nil
}

// dataOf is the data of a chunk, which may have come compressed.
func (s *snapshot) dataOf(chunk *serverpb.SnapshotChunk) ([]byte, error) {
	if packed := chunk.GetZstdData(); len(packed) > 0 {
		return s.unpack(packed)
	}
	return chunk.GetData(), nil
}

// begin opens the engine to load into, if it is not open. Without a usable snapshot from a
// master, none is opened.
func (s *snapshot) begin() error {
	if s.loader != nil {
		return nil
	}
	engine, err := s.open()
	if err != nil {
		return localError{fmt.Errorf("bootstrap: %w", err)}
	}
	s.loader = chunks.NewLoader(engine)
	return nil
}

// meet records what the first chunk says about the snapshot, and checks that it is usable.
func (s *snapshot) meet(chunk *serverpb.SnapshotChunk) error {
	if chunk.GetSnapshotId() == "" || chunk.GetHistoryId() == "" {
		return kv.Errorf(kv.Unavailable, "the master has no state yet")
	}
	id, at := s.opts.State.Position()
	if err := s.grant.check(chunk, at); err != nil {
		return err
	}
	s.progress.Size, s.progress.Index = chunk.GetSize(), chunk.GetChangeNumber()
	if err := s.opts.State.Fits(chunk.GetSize()); err != nil {
		return localError{fmt.Errorf("a snapshot of about %d MiB does not fit on the disk: %w", chunk.GetSize()>>20, err)}
	}
	s.id = chunk.GetSnapshotId()
	if id.History == "" || id.History == chunk.GetHistoryId() {
		s.status.heard(chunk.GetChangeNumber(), at, 0)
	}
	return nil
}

// errNoRoom means that the disk became full during a snapshot.
var errNoRoom = errors.New("the disk has no space for the rest of the snapshot")

// room returns errNoRoom if this many bytes do not fit on the disk, unless the copy can be followed
// instead of waiting. It ends the stream: a
// slave that waits must not keep the master's state pinned, and the master drops the
// snapshot after a while.
func (s *snapshot) room(bytes uint64) error {
	err := s.opts.State.Fits(bytes)
	switch {
	case errors.Is(err, storage.ErrNoSpace) && !s.grant.well:
		s.status.failing(localError{err})
		s.report("the disk is full; the snapshot waits for space", err)
		return fmt.Errorf("%w: %w", errNoRoom, err)
	case err != nil:
		return localError{err}
	}
	return nil
}

// roomBytes is the free space that is needed to resume a snapshot.
const roomBytes = 16 << 20

// awaitRoom waits until the disk has space; it returns false when ctx has ended.
func (s *snapshot) awaitRoom(ctx context.Context) bool {
	for {
		if !sleep.For(ctx, localPause) {
			return false
		}
		err := s.opts.State.Fits(min(roomBytes, s.progress.Size-min(s.progress.Size, s.progress.Bytes)))
		if !errors.Is(err, storage.ErrNoSpace) {
			return true
		}
		s.status.failing(localError{err})
	}
}

// tell logs the progress at intervals.
func (s *snapshot) tell() {
	if time.Since(s.reported) < progressInterval {
		return
	}
	s.reported = time.Now()
	s.log.Info("bootstrapping", "master", s.source.Address, "bytes", s.progress.Bytes, "of_about", s.progress.Size)
}
