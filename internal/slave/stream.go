package slave

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
)

// receive follows the master's stream of changes. Its heartbeats show that the master is
// alive, but not at what time it had the number in them: see probe.
func (s *session) receive(ctx context.Context, after kv.Index, out chan<- stretch) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	quiet := newWatchdog(s.patience.length(), minPatience, s.peer.Heard, stop)
	defer quiet.stop()
	stream, err := s.peer.Stream(ctx, serverpb.DKVReplication_StreamChanges_FullMethodName, &serverpb.StreamChangesRequest{
		FromChangeNumber: after + 1,
		VBucket:          s.opts.VBucket,
		HistoryId:        s.history,
		Replica:          s.opts.Self,
		WithRequests:     true,
		AcceptZstd:       s.shrinks(),
	})
	if err != nil {
		return quiet.explain(ctx, err)
	}
	for {
		resp := new(serverpb.GetChangesResponse)
		if err := quiet.recv(stream, resp); err != nil {
			return quiet.explain(ctx, err)
		}
		if err := s.grow(resp); err != nil {
			return err
		}
		st, err := s.stretchOf(resp, after)
		if err != nil {
			return err
		}
		s.received(resp, st.bytes)
		after = st.upTo
		if passed, err := quiet.pass(ctx, st, out); !passed {
			return err
		}
		s.intake.reach(s.history, st.upTo)
		s.moved()
	}
}

// probeInterval is the time between two questions of a streaming slave about how far its
// master is.
const probeInterval = 500 * time.Millisecond

// probe asks the master how far it is, at intervals and when a reader waits. When the state
// has reached that number, it was up to date at the time of the question.
func (s *session) probe(ctx context.Context, out chan<- claim) error {
	t := time.NewTicker(probeInterval)
	defer t.Stop()
	for {
		begun := time.Now()
		_, at := s.opts.State.Position()
		resp, err := s.ask(ctx)
		if errors.Is(err, errCircle) {
			return err
		}
		if err == nil && resp.GetHistoryId() == s.history {
			s.received(resp, 0)
			// The answer of a master that is behind says nothing about the age of the state.
			// If nothing can be applied at present, the waiting claims suffice.
			if resp.GetMasterChangeNumber() >= at {
				select {
				case out <- claimOf(resp, begun):
				default:
				}
			}
		}
		// The stream detects the failure of a master.
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

// positionInterval is the time between two reports to the master of how far the state is
// while it lags: each costs sending a change that is not used.
const positionInterval = 5 * time.Second

// ask asks how far the master is, and reports how far the state is. Only one goroutine of a
// session calls it. It does not wait for a large change to arrive, which comes in another way, too.
func (s *session) ask(ctx context.Context) (*serverpb.GetChangesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience.length())
	defer cancel()
	_, at := s.opts.State.Position()
	newest := s.status.newest()
	if at >= newest || at != s.told && time.Since(s.toldAt) >= positionInterval {
		s.told, s.toldAt = at, time.Now()
		return s.getChanges(ctx, at, 1)
	}
	return s.peek(ctx, newest+1)
}
