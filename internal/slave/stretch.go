package slave

import (
	"math"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// stretch is a part of the change stream: the effects of all numbers up to upTo that were
// not in the stretch before.
type stretch struct {
	changes []kv.Change
	upTo    kv.Index
	// clock is the log's clock at upTo; 0 if the last change has it, or if it is unknown.
	clock kv.Clock
	// bytes is the size of keys and values.
	bytes int
	// claim is the newest number that the master reported and when; zero if the time is not
	// known.
	claim claim
}

// stretchOf checks a response and returns its changes. after is the number up to which all
// changes were received before. The stretch refers to memory of the response.
func (s *session) stretchOf(resp *serverpb.GetChangesResponse, after kv.Index) (stretch, error) {
	if h := resp.GetHistoryId(); h != s.history {
		return stretch{}, kv.Errorf(kv.Precondition, "the history here is %s, and the master's is %s by now", s.history, h)
	}
	records := resp.GetChanges()
	out := stretch{upTo: after}
	if len(records) == 0 {
		// Numbers without a change up to there had no effect.
		if newest := resp.GetMasterChangeNumber(); newest > after {
			out.upTo, out.clock = newest, kv.Clock(resp.GetMasterClock())
		}
		return out, nil
	}
	out.changes = make([]kv.Change, len(records))
	total := 0
	for _, r := range records {
		total += len(r.GetTrxns())
	}
	mutations := make([]kv.Mutation, total)
	for i, r := range records {
		if r.GetChangeNumber() <= out.upTo {
			return stretch{}, kv.Errorf(kv.Internal, "the master sent change %d after %d", r.GetChangeNumber(), out.upTo)
		}
		n := len(r.GetTrxns())
		bytes, err := fill(mutations[:n], r.GetTrxns())
		if err != nil {
			return stretch{}, err
		}
		out.upTo = r.GetChangeNumber()
		out.bytes += bytes
		out.changes[i] = kv.Change{Index: out.upTo, Clock: kv.Clock(r.GetClock()), Mutations: mutations[:n:n]}
		if out.changes[i].Request, err = requestOf(r); err != nil {
			return stretch{}, err
		}
		mutations = mutations[n:]
	}
	return out, nil
}

// requestOf returns the request that caused a change; nil if the master has sent none.
func requestOf(r *serverpb.ChangeRecord) (*kv.ChangeRequest, error) {
	q := r.GetRequest()
	switch {
	case q == nil:
		return nil, nil
	case q.GetClient() == 0 || q.GetAcked() >= q.GetSequence() || q.GetCode() > math.MaxUint8:
		return nil, kv.Errorf(kv.Internal, "the master sent change %d with a malformed request", r.GetChangeNumber())
	}
	return &kv.ChangeRequest{
		ID:          kv.RequestID{Client: q.GetClient(), Sequence: q.GetSequence(), Acked: q.GetAcked()},
		Fingerprint: q.GetFingerprint(), Code: uint8(q.GetCode()), Counter: q.GetCounter(),
	}, nil
}

// all returns the changes, with a last one that only sets the clock at upTo.
func (s *stretch) all() []kv.Change {
	if s.clock == 0 {
		return s.changes
	}
	return append(slices.Clip(s.changes), kv.Change{Index: s.upTo, Clock: s.clock})
}

// fill converts a change's mutations, and returns the size of their keys and values.
func fill(dst []kv.Mutation, trxns []*serverpb.TrxnRecord) (bytes int, err error) {
	for i, t := range trxns {
		m := kv.Mutation{Key: t.GetKey()}
		switch {
		case len(m.Key) == 0:
			return 0, kv.Errorf(kv.Internal, "the master sent a change without a key")
		case t.GetType() == serverpb.TrxnRecord_Put:
			m.Value, m.ExpireTS = t.GetValue(), t.GetExpireTS()
		case t.GetType() == serverpb.TrxnRecord_Delete:
			m.Delete = true
		default:
			return 0, kv.Errorf(kv.Unimplemented, "the master sent a change of type %v, which this version does not know; update this node", t.GetType())
		}
		dst[i] = m
		bytes += len(m.Key) + len(m.Value)
	}
	return bytes, nil
}

// claim records that a number was the newest of the log at a time.
type claim struct {
	newest kv.Index
	at     time.Time
}

// claimOf returns the claim of a response to a request that was sent at a time.
func claimOf(resp *serverpb.GetChangesResponse, begun time.Time) claim {
	return claim{newest: resp.GetMasterChangeNumber(), at: begun.Add(-ageOf(resp))}
}

// maxClaims bounds the claims that the state has not reached yet.
const maxClaims = 16

// freshness holds the claims that the state has not reached yet, the oldest first. It is
// not safe for concurrent use.
type freshness struct{ claims []claim }

func (f *freshness) add(c claim) {
	if c.at.IsZero() || len(f.claims) == maxClaims {
		return // those that wait are reached earlier
	}
	f.claims = append(f.claims, c)
}

// reached returns the latest time of a claim that a state at an index has reached; false
// if there is none.
func (f *freshness) reached(at kv.Index) (time.Time, bool) {
	var latest time.Time
	n := 0
	for _, c := range f.claims {
		if c.newest > at {
			f.claims[n] = c
			n++
			continue
		}
		if c.at.After(latest) {
			latest = c.at
		}
	}
	f.claims = f.claims[:n]
	return latest, !latest.IsZero()
}
