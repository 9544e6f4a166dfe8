package slave

import (
	"context"
	"math"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
)

// attach checks whether the state can follow the master: the master must have the last
// change that was applied here, and it must be the same. Of a state that knows no change, as a
// snapshot brings it, the master must at least have none where the state has none.
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
	switch {
	case last.Index == 0 || last.Index > at:
	case known:
		from, s.last = last.Index, markOf(&last)
	default:
		from = last.Index
	}
	begun := time.Now()
	a, err := s.look(ctx, from, at)
	if err != nil {
		return finding{}, err
	}
	f := finding{
		verdict: s.descent(a.resp, id, at),
		id:      history.Identity{Cluster: a.resp.GetClusterId(), History: a.resp.GetHistoryId()},
		newest:  a.resp.GetMasterChangeNumber(),
	}
	f.lineage = lineageOf(a.resp)
	switch {
	case f.verdict != fit && f.verdict != promoted:
	case f.newest < at && s.wentBack(begun, a.resp):
		f.verdict = regressed
	case f.newest < at:
		f.verdict = behind
	case !a.retained:
		f.verdict = trimmed
	case a.from > at:
	case !known:
		if s.last, known = markAt(a.resp, &last, at); !known {
			f.verdict = diverged
		}
	case !s.last.holds(a.resp, at):
		f.verdict = diverged
	}
	return f, nil
}

// answer is a master's response about the changes from a number on.
type answer struct {
	resp *serverpb.GetChangesResponse
	from kv.Index
	// retained reports whether it has them.
	retained bool
}

// look asks for the change at a number and the next one. If the master no longer has it,
// look asks for the changes after at, and if it does not have those either, only for the
// identity of its log.
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

// beyond is a change number that no log ever reaches.
const beyond = math.MaxInt64

// regressMargin is by how much the age that a master reports may be too small.
const regressMargin = 5 * time.Second

// wentBack reports whether the master had all of the log, up to a number below the
// state's, at a time when the state was already further.
func (s *session) wentBack(begun time.Time, resp *serverpb.GetChangesResponse) bool {
	return begun.Add(-ageOf(resp) - regressMargin).After(s.status.lastApplied())
}

func ageOf(resp *serverpb.GetChangesResponse) time.Duration {
	return time.Duration(min(resp.GetAgeMillis(), uint64(maxAge.Milliseconds()))) * time.Millisecond
}

// maxAge is the greatest age; greater ones count as this.
const maxAge = 365 * 24 * time.Hour

// peek asks for the change at a number and the next one. The master does not conclude
// from it how far the state is.
func (s *session) peek(ctx context.Context, from kv.Index) (*serverpb.GetChangesResponse, error) {
	return s.call(ctx, &serverpb.GetChangesRequest{FromChangeNumber: from, MaxNumberOfChanges: 2, VBucket: s.opts.VBucket, HistoryId: s.history, AcceptZstd: s.shrinks()})
}

// getChanges asks the master for the changes after a number, which also tells the master
// how far the state is. most bounds their number; 0 leaves that to the master.
func (s *session) getChanges(ctx context.Context, after kv.Index, most uint32) (*serverpb.GetChangesResponse, error) {
	return s.call(ctx, &serverpb.GetChangesRequest{
		FromChangeNumber: after + 1, MaxNumberOfChanges: most, VBucket: s.opts.VBucket, HistoryId: s.history, Replica: s.opts.Self,
		WithRequests: true, AcceptZstd: s.shrinks(),
	})
}

// call may take as long as something arrives.
func (s *session) call(ctx context.Context, req *serverpb.GetChangesRequest) (*serverpb.GetChangesResponse, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer newWatchdog(s.patience.length(), minPatience, s.peer.Heard, cancel).stop()
	resp := new(serverpb.GetChangesResponse)
	var sent time.Duration
	if s.opts.Clock != nil {
		sent = s.opts.Clock.Elapsed()
	}
	if err := s.peer.Invoke(ctx, serverpb.DKVReplication_GetChanges_FullMethodName, req, resp); err != nil {
		return nil, err
	}
	if err := s.grow(resp); err != nil {
		return nil, err
	}
	if err := s.heardPath(resp); err != nil {
		return nil, err
	}
	if ms := resp.GetNowMillis(); ms != 0 && s.opts.Clock != nil && s.trusts(resp) {
		s.hear(time.UnixMilli(int64(ms)), sent)
	}
	return resp, nil
}

// masterTime is the time that a master has told last.
type masterTime struct {
	master string
	now    time.Time
}

// hear goes by the time that the master has told in the answer to a request that was sent at a time. No node's
// time goes back unless an operator has set its log's clock, or it was started again: then the
// time here goes back, too. The log shows the first only if something was written at the wrong time. Another
// master may have another time, which says nothing. Only one goroutine of a session asks and is trusted.
func (s *session) hear(now time.Time, sent time.Duration) {
	c := s.opts.Clock
	before := s.heard
	s.heard = masterTime{s.source.Address, now}
	if by := before.now.Sub(now); before.master == s.source.Address && by > 2*c.MaxJump() {
		s.log.Warn("the master's time was set back, and the time here follows it", "master", s.source.Address, "by", by)
		c.HearSetBack(masterClock, now, sent, c.Elapsed())
		return
	}
	c.Hear(masterClock, now, sent, c.Elapsed())
}

// trusts reports whether the time of a response is the slave's: it comes from the master that is
// followed, and from the same log. A clock never goes back, so that one answer of any other node
// could hide live keys until the slave is started again.
func (s *session) trusts(resp *serverpb.GetChangesResponse) bool {
	return s.followed && resp.GetHistoryId() == s.history
}
