package kv_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/kv"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

func TestClockOf(t *testing.T) {
	for _, c := range []struct {
		time time.Time
		want kv.Clock
	}{
		{time.UnixMilli(0), 0},
		{time.UnixMilli(1), 1},
		{time.Unix(1_700_000_000, 999_999_999), 1_700_000_000_999},
		{time.UnixMilli(-1), 0},
		{time.Time{}, 0},
	} {
		if got := kv.ClockOf(c.time); got != c.want {
			t.Errorf("ClockOf(%v) = %d, want %d", c.time, got, c.want)
		}
	}
}

func TestClockRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := kv.Clock(rapid.Uint64Range(0, math.MaxInt64).Draw(t, "clock"))
		if got := kv.ClockOf(c.Time()); got != c {
			t.Fatalf("%d came back as %d", c, got)
		}
	})
}

func TestExpired(t *testing.T) {
	for _, c := range []struct {
		clock    kv.Clock
		expireTS uint64
		want     bool
	}{
		{0, 0, false},
		{math.MaxUint64, 0, false}, // 0 is never
		{4999, 5, false},
		{5000, 5, true},
		{5001, 5, true},
		{0, 1, false},
		{5000, math.MaxUint64, false},
		{math.MaxUint64, math.MaxUint64, false},
		{math.MaxUint64, math.MaxUint64 / 1000, true},
	} {
		if got := c.clock.Expired(c.expireTS); got != c.want {
			t.Errorf("at %d ms, expiry %d s: %v, want %v", c.clock, c.expireTS, got, c.want)
		}
	}
}

// What has expired stays so.
func TestExpiredIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := kv.Clock(rapid.Uint64().Draw(t, "a")), kv.Clock(rapid.Uint64().Draw(t, "b"))
		expireTS := rapid.Uint64().Draw(t, "expireTS")
		if min(a, b).Expired(expireTS) && !max(a, b).Expired(expireTS) {
			t.Fatalf("expired at %d, not at %d", min(a, b), max(a, b))
		}
	})
}

func TestRequestIDIsZero(t *testing.T) {
	if !(kv.RequestID{}).IsZero() || (kv.RequestID{Client: 1}).IsZero() {
		t.Error("a request has an id if, and only if, it names a client")
	}
}

func TestReadLevelString(t *testing.T) {
	for level, want := range map[kv.ReadLevel]string{
		kv.Sequential: "sequential", kv.Linearizable: "linearizable", 9: "ReadLevel(9)",
	} {
		if got := level.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	plain := errors.New("plain")
	refused := kv.Errorf(kv.Invalid, "key %q: %w", "a", io.EOF)
	unknown := kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("lost: %w", io.EOF))
	for _, c := range []struct {
		name    string
		err     error
		text    string
		kind    kv.Kind
		outcome kv.Outcome
		isEOF   bool
	}{
		{"none", nil, "", kv.Internal, kv.Unknown, false},
		{"foreign", plain, "plain", kv.Internal, kv.Unknown, false},
		{"refused", refused, `key "a": EOF`, kv.Invalid, kv.NotApplied, true},
		{"unknown", unknown, "lost: EOF", kv.Unavailable, kv.Unknown, true},
		{"wrapped", fmt.Errorf("put: %w", refused), `put: key "a": EOF`, kv.Invalid, kv.NotApplied, true},
		{"wrapped twice", kv.Errorf(kv.Exhausted, "put: %w", unknown), "put: lost: EOF", kv.Exhausted, kv.NotApplied, true},
		{"joined", errors.Join(plain, refused), "plain\nkey \"a\": EOF", kv.Invalid, kv.NotApplied, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.err != nil && c.err.Error() != c.text {
				t.Errorf("text %q, want %q", c.err, c.text)
			}
			if got := kv.KindOf(c.err); got != c.kind {
				t.Errorf("kind %d, want %d", got, c.kind)
			}
			if got := kv.OutcomeOf(c.err); got != c.outcome {
				t.Errorf("outcome %v, want %v", got, c.outcome)
			}
			if got := errors.Is(c.err, io.EOF); got != c.isEOF {
				t.Errorf("errors.Is(EOF) is %v", got)
			}
		})
	}
}

func TestOutcomeString(t *testing.T) {
	if kv.NotApplied.String() != "not applied" || kv.Unknown.String() != "outcome unknown" {
		t.Errorf("%v, %v", kv.NotApplied, kv.Unknown)
	}
}
