package slave

import (
	"bytes"
	"context"
	"math"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// attach finds out whether the state can follow on from the master: by asking for the
// last change that was applied here, which the master must have too, the same.
func (s *session) attach(ctx context.Context) (verdict, error) {
	id, at := s.opts.State.Position()
	if id.History == "" {
		return nothing, nil
	}
	s.history = id.History
	last, known, err := s.opts.State.LastChange(ctx)
	if err != nil {
		return fit, localError{err}
	}
	from := at + 1
	if known && last.Index <= at {
		from = last.Index
	}
	begun := time.Now()
	a, err := s.look(ctx, from, at)
	switch {
	case err != nil:
		return fit, err
	case a.resp.GetHistoryId() != id.History || a.resp.GetClusterId() != "" && a.resp.GetClusterId() != id.Cluster:
		return foreign, nil
	case !a.retained:
		return trimmed, nil
	case a.resp.GetMasterChangeNumber() < at && s.wentBack(begun, a.resp):
		return regressed, nil
	case a.resp.GetMasterChangeNumber() < at:
		return behind, nil
	case a.from <= at && !holds(a.resp, last):
		return diverged, nil
	}
	s.status.heard(a.resp.GetMasterChangeNumber(), 0)
	return fit, nil
}

// answer is what a master says of the changes from a number on.
type answer struct {
	resp *serverpb.GetChangesResponse
	from kv.Index
	// retained tells whether it has them.
	retained bool
}

// look asks for one change from a number on; where the master does not have that any
// more, for what comes behind at; and where it does not have that either, only whose
// changes it has.
func (s *session) look(ctx context.Context, from, at kv.Index) (answer, error) {
	resp, err := s.getChanges(ctx, from, 1)
	if kv.KindOf(err) == kv.OutOfRange && from <= at {
		from = at + 1
		resp, err = s.getChanges(ctx, from, 1)
	}
	retained := err == nil || kv.KindOf(err) != kv.OutOfRange
	if !retained {
		resp, err = s.call(ctx, &serverpb.GetChangesRequest{FromChangeNumber: beyond, MaxNumberOfChanges: 1, VBucket: s.opts.VBucket})
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

// holds tells whether the first change of a response is c.
func holds(resp *serverpb.GetChangesResponse, c kv.Change) bool {
	if len(resp.GetChanges()) == 0 {
		return false
	}
	first := resp.GetChanges()[0]
	if first.GetChangeNumber() != c.Index || first.GetClock() != uint64(c.Clock) || len(first.GetTrxns()) != len(c.Mutations) {
		return false
	}
	for i, t := range first.GetTrxns() {
		m := &c.Mutations[i]
		same := bytes.Equal(t.GetKey(), m.Key) && (t.GetType() == serverpb.TrxnRecord_Delete) == m.Delete
		if !m.Delete {
			same = same && bytes.Equal(t.GetValue(), m.Value) && t.GetExpireTS() == m.ExpireTS
		}
		if !same {
			return false
		}
	}
	return true
}

// getChanges asks the master for changes from a number on; most is 0 for as many as
// it likes to send.
func (s *session) getChanges(ctx context.Context, from kv.Index, most uint32) (*serverpb.GetChangesResponse, error) {
	return s.call(ctx, &serverpb.GetChangesRequest{
		FromChangeNumber: from, MaxNumberOfChanges: most, VBucket: s.opts.VBucket, Replica: s.opts.Self,
	})
}

func (s *session) call(ctx context.Context, req *serverpb.GetChangesRequest) (*serverpb.GetChangesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience.length())
	defer cancel()
	resp := new(serverpb.GetChangesResponse)
	if err := s.peer.Invoke(ctx, serverpb.DKVReplication_GetChanges_FullMethodName, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}
