package kv

import (
	"errors"
	"testing"
)

func TestReason(t *testing.T) {
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{Errorf(Invalid, "x"), ReasonNotApplied},
		{Errorf(Unavailable, "x"), ReasonNotApplied},
		{Errorf(NotOwner, "x"), ReasonNotOwner},
		{UnknownOutcome(Unavailable, errors.New("x")), ReasonUnknown},
		{UnknownOutcome(TooLate, errors.New("x")), ReasonTooLate},
		{Errorf(OtherCluster, "x"), ReasonOtherCluster},
		{UnknownOutcome(NotConfirmed, errors.New("x")), ReasonNotConfirmed},
		{Errorf(Lost, "x"), ReasonLost},
		{Errorf(NotConfirmed, "x"), ReasonNotConfirmed}, // of a read
		// What may have landed is not to be taken for a redirection.
		{UnknownOutcome(NotOwner, errors.New("x")), ReasonUnknown},
	} {
		if got := c.err.Reason(); got != c.want {
			t.Errorf("kind %d, %v: %s, want %s", c.err.Kind, c.err.Outcome, got, c.want)
		}
	}
}
