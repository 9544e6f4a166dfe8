// Package quota bounds what the calls of each identity use together on a node: requests a
// second, requests at the same time, and streams. An identity without limits costs nothing.
package quota

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/dkvdb/dkv/internal/auth"
)

// The limits, as metrics name them.
const (
	Rate     = "identity-requests-per-second"
	InFlight = "identity-requests-in-flight"
	Streams  = "identity-streams"
)

const (
	// requestPause and streamPause are when to try again what other calls of the identity
	// take: requests end soon, streams last.
	requestPause, streamPause = 50 * time.Millisecond, time.Second
	// manyShares is from how many identities on those that use nothing are forgotten: JWTs
	// may name any number of them.
	manyShares = 1024
)

// Exceeded is the error of a call beyond a limit of its identity.
type Exceeded struct {
	// Limit is the limit, as metrics name it.
	Limit string
	// RetryAfter is when the call may be within the limit.
	RetryAfter time.Duration

	text string
}

func (e *Exceeded) Error() string { return e.text }

// Quotas are the shares of all identities. The zero value is ready, and it is safe for
// concurrent use.
type Quotas struct {
	mu     sync.Mutex
	shares map[key]*Share
	// crowd is how many shares there may be before those that use nothing are looked for.
	crowd int
}

// key is what identities of one name have in common, whatever they show.
type key struct {
	kind auth.Kind
	name string
}

// Share is what the calls of one identity use. A nil Share is that of an identity without
// limits.
type Share struct {
	of                *Quotas
	limits            auth.Limits
	rate              *rate.Limiter // nil if there is no limit
	requests, streams int
}

// Request counts a request that begins, until Share.EndRequest. Its error is an *Exceeded.
func (q *Quotas) Request(id *auth.Identity, now time.Time) (*Share, error) {
	if id == nil || id.Limits == nil {
		return nil, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.share(id, now)
	if most := s.limits.RequestsInFlight; most > 0 && s.requests >= most {
		return nil, exceeded(id, InFlight, requestPause, "%d requests are under way, which is its limit (requests-in-flight)", most)
	}
	if err := s.due(id, now); err != nil {
		return nil, err
	}
	s.requests++
	return s, nil
}

// Stream counts a stream that begins, which is a request of its own, until
// Share.EndStream. Its error is an *Exceeded.
func (q *Quotas) Stream(id *auth.Identity, now time.Time) (*Share, error) {
	if id == nil || id.Limits == nil {
		return nil, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.share(id, now)
	if most := s.limits.Streams; most > 0 && s.streams >= most {
		return nil, exceeded(id, Streams, streamPause, "%d streams are open, which is its limit (streams)", most)
	}
	if err := s.due(id, now); err != nil {
		return nil, err
	}
	s.streams++
	return s, nil
}

// EndRequest ends what Request has counted.
func (s *Share) EndRequest() {
	if s != nil {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.requests--
	}
}

// EndStream ends what Stream has counted.
func (s *Share) EndStream() {
	if s != nil {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.streams--
	}
}

// share returns the share of an identity, with the limits that it has now. The caller holds
// mu.
func (q *Quotas) share(id *auth.Identity, now time.Time) *Share {
	k := key{id.Kind, id.Name}
	s := q.shares[k]
	if s == nil {
		q.makeRoom(now)
		s = &Share{of: q}
		q.shares[k] = s
	}
	if s.limits != *id.Limits {
		s.limits = *id.Limits
		s.rate = nil
		if n := s.limits.RequestsPerSecond; n > 0 {
			s.rate = rate.NewLimiter(rate.Limit(n), n)
		}
	}
	return s
}

// makeRoom forgets shares that nothing is known of any more, if there are many. The caller
// holds mu.
func (q *Quotas) makeRoom(now time.Time) {
	if q.shares == nil {
		q.shares, q.crowd = make(map[key]*Share), manyShares
	}
	if len(q.shares) < q.crowd {
		return
	}
	for k, s := range q.shares {
		if s.requests == 0 && s.streams == 0 && (s.rate == nil || s.rate.TokensAt(now) >= float64(s.rate.Burst())) {
			delete(q.shares, k)
		}
	}
	q.crowd = max(manyShares, 2*len(q.shares)) // so that looking costs little a share
}

// due takes one of the identity's requests of this second. The caller holds mu.
func (s *Share) due(id *auth.Identity, now time.Time) error {
	if s.rate == nil {
		return nil
	}
	r := s.rate.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return exceeded(id, Rate, wait, "more requests come than the %d a second that are its limit (requests-per-second)", s.limits.RequestsPerSecond)
}

func exceeded(id *auth.Identity, limit string, after time.Duration, format string, most int) error {
	return &Exceeded{Limit: limit, RetryAfter: after, text: fmt.Sprintf("of identity %q, "+format+"; retry later (not applied)", id.Name, most)}
}
