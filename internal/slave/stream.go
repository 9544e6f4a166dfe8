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

// receive follows the master's stream of changes. Its heartbeats tell that the
// master lives, but not when what they say was so: see probe.
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
	})
	if err != nil {
		return quiet.explain(ctx, err)
	}
	for {
		resp := new(serverpb.GetChangesResponse)
		if err := quiet.recv(stream, resp); err != nil {
			return quiet.explain(ctx, err)
		}
		st, err := s.stretchOf(resp, after)
		if err != nil {
			return err
		}
		s.received(resp, st.bytes)
		after = st.upTo
		select {
		case out <- st:
		case <-ctx.Done():
			return nil
		}
	}
}

// watchdog ends a stream on which nothing arrives.
type watchdog struct {
	timer *time.Timer
	// patient is how long the next message may take, least how long one may take on
	// a line that is not slow.
	patient, least time.Duration
}

func newWatchdog(patient, least time.Duration, stop context.CancelCauseFunc) *watchdog {
	return &watchdog{patient: patient, least: least, timer: time.AfterFunc(patient, func() { stop(errSilent) })}
}

// recv reads the next message. Only this counts: what is done with it in between may
// take as long as it will.
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

// arrived notes how long a message took. What patience had grown for is over with the
// first one that comes in time, and a master that dies then is found out as soon as
// any other.
func (w *watchdog) arrived(took time.Duration) {
	if took < w.least/2 {
		w.patient = w.least
	}
}

func (w *watchdog) stop() { w.timer.Stop() }

// explain is the error of a stream that has ended with err.
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

// probeInterval is how often a streaming slave asks how far its master is.
const probeInterval = 500 * time.Millisecond

// probe asks the master how far it is, now and then and when a reader wants to know:
// once the state is there, it was the newest when the question was asked.
func (s *session) probe(ctx context.Context, out chan<- claim) error {
	t := time.NewTicker(probeInterval)
	defer t.Stop()
	for {
		begun := time.Now()
		_, at := s.opts.State.Position()
		resp, err := s.ask(ctx)
		if err == nil && resp.GetHistoryId() == s.history {
			s.received(resp, 0)
			// A master that is behind knows nothing of how old the state is. And where
			// nothing can be applied at present, the claims that wait do.
			if resp.GetMasterChangeNumber() >= at {
				select {
				case out <- claimOf(resp, begun):
				default:
				}
			}
		}
		// That a master fails is for the stream to find out.
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

// positionInterval is how often a master is told how far a state is that has not got
// everything: that costs sending a change which is not used.
const positionInterval = 5 * time.Second

// ask asks how far the master is, and tells it how far the state is. One goroutine of
// a session calls it.
func (s *session) ask(ctx context.Context) (*serverpb.GetChangesResponse, error) {
	_, at := s.opts.State.Position()
	newest := s.status.newest()
	if at >= newest || at != s.told && time.Since(s.toldAt) >= positionInterval {
		s.told, s.toldAt = at, time.Now()
		return s.getChanges(ctx, at, 1)
	}
	return s.peek(ctx, newest+1)
}
