package slave

import (
	"context"
	"math"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// attach finds out whether the state can follow on from the master: by asking for the
// last change that was applied here, which the master must have too, the same.
func (s *session) attach(ctx context.Context) (finding, error) {
	id, at := s.opts.State.Position()
	if id.History == "" {
		return finding{verdict: nothing}, nil
	}
	s.history = id.History
	last, known, err := s.opts.State.LastChange(ctx)
	if err != nil {
		return finding{}, localError{err}
	}
	from := at + 1
	if known && last.Index <= at {
		from, s.last = last.Index, markOf(&last)
	}
	begun := time.Now()
	a, err := s.look(ctx, from, at)
	if err != nil {
		return finding{}, err
	}
	f := finding{
		verdict: s.descent(a.resp, id, at),
		id:      fsm.Identity{Cluster: a.resp.GetClusterId(), History: a.resp.GetHistoryId()},
		newest:  a.resp.GetMasterChangeNumber(),
	}
	switch {
	case f.verdict != fit:
	case f.newest < at && s.wentBack(begun, a.resp):
		f.verdict = regressed
	case f.newest < at:
		f.verdict = behind
	case !a.retained:
		f.verdict = trimmed
	case a.from <= at && !s.last.holds(a.resp, at):
		f.verdict = diverged
	}
	return f, nil
}

// descent is how a master's log is related to the state here; fit where it is of
// the same history.
func (s *session) descent(resp *serverpb.GetChangesResponse, id fsm.Identity, at kv.Index) verdict {
	own := resp.GetClusterId() == "" || resp.GetClusterId() == id.Cluster
	switch {
	case own && resp.GetHistoryId() == "":
		return behind // it has no state of its own yet
	case own && resp.GetHistoryId() == id.History:
		return fit
	case own && resp.GetReplacesHistory() && resp.GetMasterChangeNumber() >= at:
		return renewed
	case own && s.opts.State.Succeeds(resp.GetHistoryId()):
		return behind // it has not got to the restore that the state is of
	case own:
		return rewritten
	default:
		return foreign
	}
}

// answer is what a master says of the changes from a number on.
type answer struct {
	resp *serverpb.GetChangesResponse
	from kv.Index
	// retained reports whether it has them.
	retained bool
}

// look asks for a change from a number on and the next; where the master does not have
// that any more, for what comes behind at; and where it does not have that either, only
// whose changes it has.
func (s *session) look(ctx context.Context, from, at kv.Index) (answer, error) {
	resp, err := s.peek(ctx, from)
	if kv.KindOf(err) == kv.OutOfRange && from <= at {
		from = at + 1
		resp, err = s.peek(ctx, from)
	}
	retained := err == nil || kv.KindOf(err) != kv.OutOfRange
	if !retained {
		resp, err = s.peek(ctx, beyond)
	}
	return answer{resp: resp, from: from, retained: retained}, err
}

// beyond is a number that no log ever reaches.
const beyond = math.MaxInt64

// regressMargin is by how much a master's word of its age may be too small.
const regressMargin = 5 * time.Second

// wentBack tells whether the master knew all of the log, up to a number below the
// state's, at a time when the state had gone further already.
func (s *session) wentBack(begun time.Time, resp *serverpb.GetChangesResponse) bool {
	return begun.Add(-ageOf(resp) - regressMargin).After(s.status.lastApplied())
}

func ageOf(resp *serverpb.GetChangesResponse) time.Duration {
	return time.Duration(min(resp.GetAgeMillis(), uint64(maxAge.Milliseconds()))) * time.Millisecond
}

// maxAge is what greater ages count as.
const maxAge = 365 * 24 * time.Hour

// peek asks for the change at a number and the next one. The master does not take it
// for where the state is.
func (s *session) peek(ctx context.Context, from kv.Index) (*serverpb.GetChangesResponse, error) {
	return s.call(ctx, &serverpb.GetChangesRequest{FromChangeNumber: from, MaxNumberOfChanges: 2, VBucket: s.opts.VBucket, HistoryId: s.history})
}

// getChanges asks the master for the changes behind a number, which tells it how far
// the state is; most is 0 for as many as it likes to send.
func (s *session) getChanges(ctx context.Context, after kv.Index, most uint32) (*serverpb.GetChangesResponse, error) {
	return s.call(ctx, &serverpb.GetChangesRequest{
		FromChangeNumber: after + 1, MaxNumberOfChanges: most, VBucket: s.opts.VBucket, HistoryId: s.history, Replica: s.opts.Self,
	})
}

func (s *session) call(ctx context.Context, req *serverpb.GetChangesRequest) (*serverpb.GetChangesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience.length())
	defer cancel()
	resp := new(serverpb.GetChangesResponse)
	var sent time.Duration
	if s.opts.Clock != nil {
		sent = s.opts.Clock.Elapsed()
	}
	if err := s.peer.Invoke(ctx, serverpb.DKVReplication_GetChanges_FullMethodName, req, resp); err != nil {
		return nil, err
	}
	if ms := resp.GetNowMillis(); ms != 0 && s.opts.Clock != nil {
		s.opts.Clock.Hear(masterClock, time.UnixMilli(int64(ms)), sent, s.opts.Clock.Elapsed())
	}
	return resp, nil
}
