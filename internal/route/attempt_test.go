package route

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// TestRepeatEndsAtItsLimit: attempts go on until the limit, with pauses that grow.
func TestRepeatEndsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, attempts, longest := time.Now(), 0, time.Duration(0)
		last, failed := begin, errors.New("not yet")
		done, err := Repeat(t.Context(), begin.Add(2*time.Second), func() (bool, error) {
			longest = max(longest, time.Since(last))
			last = time.Now()
			attempts++
			return false, failed
		})
		if took := time.Since(begin); done || !errors.Is(err, failed) || took != 2*time.Second {
			t.Errorf("done %v, %v, after %v", done, err, took)
		}
		if attempts < 12 || attempts > 40 || longest > 2*lastPause {
			t.Errorf("%d attempts, up to %v apart", attempts, longest)
		}
	})
}

// TestRepeatEndsWithItsContext: an attempt that is done ends it, and so does the caller.
func TestRepeatEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		attempts := 0
		done, err := Repeat(ctx, time.Now().Add(time.Hour), func() (bool, error) {
			attempts++
			return attempts == 3, nil
		})
		if !done || err != nil || attempts != 3 {
			t.Errorf("done %v, %v, after %d attempts", done, err, attempts)
		}
		if done, err = Repeat(ctx, time.Now().Add(time.Hour), func() (bool, error) { return false, context.Canceled }); done || err == nil || ctx.Err() == nil {
			t.Errorf("done %v, %v", done, err)
		}
	})
}

// TestRemoteResults: a mutation that may have been applied is not sent again, a read is, and
// what cannot succeed elsewhere is final.
func TestRemoteResults(t *testing.T) {
	read, write := Call{}, Call{Mutates: true}
	for name, c := range map[string]struct {
		err                 error
		readDone, writeDone bool
	}{
		"success":             {nil, true, true},
		"another is owner":    {kv.Errorf(kv.NotOwner, "no"), false, false},
		"was not reached":     {kv.Errorf(kv.Unavailable, "no"), false, false},
		"broke off":           {kv.UnknownOutcome(kv.Unavailable, errors.New("no")), false, true},
		"rejected the values": {kv.Errorf(kv.Invalid, "no"), true, true},
		"is no member more":   {fmt.Errorf("no: %w", kv.ErrRemoved), false, false},
	} {
		readDone, readErr := read.Remote(c.err)
		writeDone, writeErr := write.Remote(c.err)
		if readDone != c.readDone || writeDone != c.writeDone || (readErr == nil) != (c.err == nil) || (writeErr == nil) != (c.err == nil) {
			t.Errorf("%s: a read is done: %v, %v; a mutation: %v, %v", name, readDone, readErr, writeDone, writeErr)
		}
		if c.err != nil && kv.OutcomeOf(read.Explain(c.err)) != kv.NotApplied {
			t.Errorf("%s: a read has an outcome", name)
		}
		if c.err != nil && !strings.HasSuffix(write.Explain(c.err).Error(), "("+kv.OutcomeOf(c.err).String()+")") {
			t.Errorf("%s: %v does not say the outcome", name, write.Explain(c.err))
		}
	}
}

// TestRemovedOwner: the error of a node that was removed is not given to a caller as that of this
// one, which is a member.
func TestRemovedOwner(t *testing.T) {
	st, err := status.New(codes.FailedPrecondition, kv.ErrRemoved.Error()).WithDetails(
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonNotApplied}, &errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonRemoved})
	if err != nil {
		t.Fatal(err)
	}
	removed := peer.FromStatus(st.Err())
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := Call{Mutates: true}.repeat(ctx, func() (bool, error) { return Call{Mutates: true}.Remote(removed) })
		if errors.Is(err, kv.ErrRemoved) || kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied {
			t.Errorf("%v", err)
		}
	})
}

// TestUntilAnotherOwner: a wait ends soon after another node has become the owner, and costs
// nothing once it is stopped.
func TestUntilAnotherOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, looks := time.Now(), 0
		moved := func() bool { looks++; return time.Since(begin) >= time.Second }
		ctx, stop := Until(t.Context(), moved)
		<-ctx.Done()
		if took := time.Since(begin); !errors.Is(context.Cause(ctx), errMoved) || took < time.Second || took > time.Second+ownerPoll {
			t.Errorf("it ends after %v: %v", took, context.Cause(ctx))
		}
		stop()
		begin, looks = time.Now(), 0
		ctx, stop = Until(t.Context(), func() bool { looks++; return false })
		stop()
		time.Sleep(time.Minute)
		if looks != 0 || !errors.Is(context.Cause(ctx), context.Canceled) {
			t.Errorf("%d looks after it was stopped, %v", looks, context.Cause(ctx))
		}
	})
}
