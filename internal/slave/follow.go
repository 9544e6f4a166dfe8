package slave

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/storage"
)

const (
	// pipeline is how many stretches may wait to be applied: while one is, the next
	// ones arrive. It bounds memory, at some MiB each.
	pipeline = 2
	// gatherBytes and gatherChanges are how much is applied at once.
	gatherBytes   = 4 << 20
	gatherChanges = 1 << 14
)

// follow receives and applies changes until the master is to be left, and returns
// why. Receiving and applying overlap; in between waits a bounded number of
// stretches, so that a slow disk slows the master's stream and not the master.
func (s *session) follow(ctx context.Context) error {
	ctx, leave := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer leave(nil)
	_, at := s.opts.State.Position()
	in, claims := make(chan stretch, pipeline), make(chan claim, 1)
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				leave(err)
			}
		})
	}
	if s.opts.Mode == Stream {
		run(func() error { return s.receive(ctx, at, in) })
		run(func() error { return s.probe(ctx, claims) })
	} else {
		run(func() error { return s.poll(ctx, at, in) })
	}
	run(func() error { return s.watchSources(ctx) })
	run(func() error { return s.watchLeader(ctx) })
	return s.apply(ctx, at, in, claims)
}

// apply applies what comes in.
func (s *session) apply(ctx context.Context, at kv.Index, in <-chan stretch, claims <-chan claim) error {
	for {
		select {
		case st := <-in:
			st = gather(&s.fresh, st, in)
			if st.upTo > at {
				if err := s.write(ctx, at, st); err != nil {
					return err
				}
				at = st.upTo
			}
		case c := <-claims:
			s.fresh.add(c)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if fresh, ok := s.fresh.reached(at); ok {
			s.opts.State.Fresh(fresh)
		}
	}
}

// gather adds to a stretch what has arrived behind it, up to a bound, and takes
// their claims.
func gather(f *freshness, st stretch, in <-chan stretch) stretch {
	f.add(st.claim)
	for st.bytes < gatherBytes && len(st.changes) < gatherChanges {
		select {
		case more := <-in:
			f.add(more.claim)
			st.changes = append(st.changes, more.changes...)
			st.bytes += more.bytes
			st.upTo = max(st.upTo, more.upTo)
		default:
			return st
		}
	}
	return st
}

// write applies a stretch. Where the disk is full it waits until there is room.
func (s *session) write(ctx context.Context, at kv.Index, st stretch) error {
	for {
		err := s.opts.State.Apply(ctx, at, st.changes, st.upTo)
		switch {
		case err == nil:
			s.status.applied()
			s.pause.reset()
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fsm.ErrDisorder):
			return err
		case !errors.Is(err, storage.ErrNoSpace):
			return localError{err}
		}
		s.status.failing(err)
		s.report("the disk is full; waiting for room", err)
		if _, now := s.opts.State.Position(); now != at {
			return localError{err} // a part of it is there
		}
		if !sleep.For(ctx, localPause) {
			return context.Cause(ctx)
		}
	}
}

// poll asks for changes: at once while there are more, else at an interval, or when
// a reader waits for them.
func (s *session) poll(ctx context.Context, after kv.Index, out chan<- stretch) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		begun := time.Now()
		resp, err := s.getChanges(ctx, after+1, 0)
		if err != nil {
			return err
		}
		st, err := s.stretchOf(resp, after)
		if err != nil {
			return err
		}
		s.received(resp, st.bytes)
		st.claim = claimOf(resp, begun)
		select {
		case out <- st:
		case <-ctx.Done():
			return nil
		}
		if after = st.upTo; after < resp.GetMasterChangeNumber() {
			continue
		}
		t.Reset(s.opts.PollInterval)
		select {
		case <-t.C:
		case <-s.opts.State.Wanted():
			if !sleep.For(ctx, wantedPause) {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// wantedPause bounds how often readers who wait have the master asked.
const wantedPause = 20 * time.Millisecond

// received notes a sign of life, and what came with it.
func (s *session) received(resp *serverpb.GetChangesResponse, bytes int) {
	s.status.heard(resp.GetMasterChangeNumber(), bytes)
	if bytes > 0 {
		s.served.Store(true)
	}
}

// watchSources ends when the master is not among the live ones any more, although
// there are others. That there is none is more likely a fault of who tells.
func (s *session) watchSources(ctx context.Context) error {
	for {
		changed := s.opts.Sources.Changed()
		candidates := s.opts.Sources.Candidates(s.opts.VBucket)
		if leader := leaderOf(candidates); leader != "" {
			s.opts.State.SetLeader(leader)
		}
		if _, there := sourceOf(candidates, s.source.Address); !there && len(candidates) > 0 {
			return errGone
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// leaderInterval is how often a master is asked who leads, where nobody else tells.
const leaderInterval = time.Second

// watchLeader asks the master who leads, unless discovery tells.
func (s *session) watchLeader(ctx context.Context) error {
	for {
		if leaderOf(s.opts.Sources.Candidates(s.opts.VBucket)) == "" {
			s.askLeader(ctx)
		}
		if !sleep.For(ctx, leaderInterval) {
			return nil
		}
	}
}

// askLeader asks once. Where there is no answer, what is known stays.
func (s *session) askLeader(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, minPatience)
	defer cancel()
	resp := new(serverpb.NodeStatusResponse)
	if err := s.peer.Invoke(ctx, serverpb.DKVNode_GetNodeStatus_FullMethodName, new(emptypb.Empty), resp); err != nil {
		return
	}
	for _, v := range resp.GetVBuckets() {
		if v.GetVBucket() == s.opts.VBucket && v.GetLeader() != "" {
			s.opts.State.SetLeader(v.GetLeader())
		}
	}
}
