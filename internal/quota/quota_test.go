package quota

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
)

func limited(name string, l auth.Limits) *auth.Identity {
	return &auth.Identity{Kind: auth.Named, Name: name, Limits: &l}
}

func wantExceeded(t *testing.T, err error, limit string, after time.Duration) {
	t.Helper()
	var e *Exceeded
	if !errors.As(err, &e) || e.Limit != limit || e.RetryAfter != after {
		t.Errorf("%#v, want the limit %s and to retry after %v", err, limit, after)
	}
}

func TestRequestsInFlight(t *testing.T) {
	var q Quotas
	now := time.Now()
	ann, bob := limited("ann", auth.Limits{RequestsInFlight: 2}), limited("bob", auth.Limits{RequestsInFlight: 1})
	first, err := q.Request(ann, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Request(ann, now); err != nil {
		t.Error(err)
	}
	_, err = q.Request(ann, now)
	wantExceeded(t, err, InFlight, requestPause)
	if want := `of identity "ann", 2 requests are under way, which is its limit (requests-in-flight); retry later (not applied)`; err.Error() != want {
		t.Errorf("%s, want %s", err, want)
	}
	if _, err := q.Request(bob, now); err != nil {
		t.Errorf("another identity: %v", err)
	}
	if _, err := q.Stream(ann, now); err != nil {
		t.Errorf("a stream: %v", err)
	}
	first.EndRequest()
	if _, err := q.Request(ann, now); err != nil {
		t.Errorf("after the end of one: %v", err)
	}
}

func TestStreams(t *testing.T) {
	var q Quotas
	now := time.Now()
	ann := limited("ann", auth.Limits{Streams: 1})
	first, err := q.Stream(ann, now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = q.Stream(ann, now)
	wantExceeded(t, err, Streams, streamPause)
	first.EndStream()
	if _, err := q.Stream(ann, now); err != nil {
		t.Error(err)
	}
}

// Requests and streams count together for the rate, and one that is rejected does not put
// off the next.
func TestRequestsPerSecond(t *testing.T) {
	var q Quotas
	now := time.Now()
	ann := limited("ann", auth.Limits{RequestsPerSecond: 2})
	if _, err := q.Request(ann, now); err != nil {
		t.Error(err)
	}
	if _, err := q.Stream(ann, now); err != nil {
		t.Error(err)
	}
	for range 10 {
		_, err := q.Request(ann, now)
		wantExceeded(t, err, Rate, 500*time.Millisecond)
	}
	if _, err := q.Stream(ann, now.Add(500*time.Millisecond)); err != nil {
		t.Error(err)
	}
}

// A file that is read again changes the limits of calls under way, too, and identities are
// the same whatever they show.
func TestLimitsChange(t *testing.T) {
	var q Quotas
	now := time.Now()
	if _, err := q.Request(limited("ann", auth.Limits{RequestsInFlight: 10}), now); err != nil {
		t.Fatal(err)
	}
	_, err := q.Request(limited("ann", auth.Limits{RequestsInFlight: 1}), now)
	wantExceeded(t, err, InFlight, requestPause)
	if _, err := q.Request(limited("ann", auth.Limits{RequestsPerSecond: 1}), now); err != nil {
		t.Error(err)
	}
	_, err = q.Request(limited("ann", auth.Limits{RequestsPerSecond: 1}), now)
	wantExceeded(t, err, Rate, time.Second)
}

func TestWithoutLimitsNothingIsCounted(t *testing.T) {
	var q Quotas
	ann := &auth.Identity{Kind: auth.Named, Name: "ann"}
	if n := testing.AllocsPerRun(100, func() {
		for _, id := range []*auth.Identity{nil, ann} {
			s, err := q.Request(id, time.Time{})
			if s != nil || err != nil {
				t.Fatal(s, err)
			}
			s.EndRequest()
			if s, err = q.Stream(id, time.Time{}); s != nil || err != nil {
				t.Fatal(s, err)
			}
			s.EndStream()
		}
	}); n != 0 || q.shares != nil {
		t.Errorf("%v allocations, %d shares", n, len(q.shares))
	}
}

// Identities that use nothing are forgotten, and those that use something are not.
func TestIdleIdentitiesAreForgotten(t *testing.T) {
	var q Quotas
	now := time.Now()
	busy, err := q.Request(limited("busy", auth.Limits{RequestsInFlight: 1}), now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 * manyShares {
		s, err := q.Request(limited(fmt.Sprint("user ", i), auth.Limits{RequestsPerSecond: 100}), now)
		if err != nil {
			t.Fatal(err)
		}
		s.EndRequest()
		now = now.Add(time.Millisecond)
	}
	if n := len(q.shares); n > manyShares {
		t.Errorf("%d identities are known", n)
	}
	_, err = q.Request(limited("busy", auth.Limits{RequestsInFlight: 1}), now)
	wantExceeded(t, err, InFlight, requestPause)
	busy.EndRequest()
}
