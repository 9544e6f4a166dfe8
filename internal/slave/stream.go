package slave

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/sleep"
)

// receive follows the master's stream of changes. Its heartbeats show that the master is
// alive, but not at what time it had the number in them: see probe.
func (s *session) receive(ctx context.Context, after kv.Index, out chan<- stretch) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	quiet := newWatchdog(s.patience.length(), minPatience, stop)
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

// watchdog ends a stream on which nothing arrives.
type watchdog struct {
	timer *time.Timer
	// patient is how long the next message may take, least how long one may take on a
	// network that is not slow.
	patient, least time.Duration
}

func newWatchdog(patient, least time.Duration, stop context.CancelCauseFunc) *watchdog {
	return &watchdog{patient: patient, least: least, timer: time.AfterFunc(patient, func() { stop(errSilent) })}
}

// recv reads the next message. Only this time counts: handling a message may take any
// time.
func (w *watchdog) recv(stream *peer.Stream, m any) error {
	begun := time.Now()
	w.timer.Reset(w.patient)
	defer w.timer.Stop()
	err := stream.Recv(m)
	if err == nil {
		w.arrived(time.Since(begun))
	}
	return err
}

// arrived records how long a message took. The first one that comes in time resets a grown
// patience, so that a master that dies then is noticed as soon as any other.
func (w *watchdog) arrived(took time.Duration) {
	if took < w.least/2 {
		w.patient = w.least
	}
}

func (w *watchdog) stop() { w.timer.Stop() }

// pass passes a stretch on and reports whether it did; if not, the stream has ended. The watchdog
// may have ended it at the moment in which the message arrived, as it does when this process was
// paused: then the session has to end too, with an error, since nothing more is received.
func (w *watchdog) pass(ctx context.Context, st stretch, out chan<- stretch) (passed bool, err error) {
	select {
	case out <- st:
		return true, nil
	case <-ctx.Done():
		return false, w.explain(ctx, ctx.Err())
	}
}

// explain returns the error of a stream that ended with err.
func (w *watchdog) explain(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errSilent):
		return kv.Errorf(kv.Unavailable, "%w: %v", errSilent, w.patient)
	case ctx.Err() != nil:
		return nil // it was to end
	case errors.Is(err, io.EOF):
		return kv.Errorf(kv.Unavailable, "the master has closed the stream")
	}
	return err
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
// session calls it.
func (s *session) ask(ctx context.Context) (*serverpb.GetChangesResponse, error) {
	_, at := s.opts.State.Position()
	newest := s.status.newest()
	if at >= newest || at != s.told && time.Since(s.toldAt) >= positionInterval {
		s.told, s.toldAt = at, time.Now()
		return s.getChanges(ctx, at, 1)
	}
	return s.peek(ctx, newest+1)
}
