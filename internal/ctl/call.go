package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/kv"
)

// effect tells whether a request changes anything, which decides whether it
// may be sent twice.
type effect bool

const (
	reads   effect = false
	mutates effect = true
)

// call runs request against the addresses in turn until one serves it. It goes
// on to the next address only where nothing can have happened yet: there was no
// connection, or the server is unavailable and either nothing was to be changed
// or the server says that nothing was.
//
// The time limit holds for each request; connecting to all addresses together
// has the same limit.
func (s *session) call(ctx context.Context, e effect, request func(context.Context, *grpc.ClientConn) error) error {
	dialUntil := time.Now().Add(s.Timeout)
	var failures []error
	for i, addr := range s.Addrs {
		err := s.callOne(ctx, addr, time.Until(dialUntil)/time.Duration(len(s.Addrs)-i), e, request)
		if err == nil || !mayTryNext(err, e) || ctx.Err() != nil {
			return err
		}
		failures = append(failures, err)
	}
	return joinFailures(failures)
}

func (s *session) callOne(ctx context.Context, addr string, dialLimit time.Duration, e effect,
	request func(context.Context, *grpc.ClientConn) error) error {
	dialCtx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := s.connect(dialCtx, addr)
	if err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return explain(request(callCtx, conn), addr, s.Timeout, e)
}

// requestError is a failed request, worded for people.
type requestError struct {
	addr    string
	code    codes.Code
	outcome kv.Outcome // of a mutation
	waiting string     // what the node waits for to become a member of a cluster; empty for nothing
	text    string
}

func (e *requestError) Error() string { return e.text }

// explain words the error of a request. What the server said stays as it is;
// what gRPC says on our side gets the address and, after a mutation, the
// warning that it may have happened.
func explain(err error, addr string, timeout time.Duration, e effect) error {
	var local *localError
	if err == nil || errors.As(err, &local) {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	outcome, said := saidOutcome(st)
	re := &requestError{addr: addr, code: st.Code(), outcome: kv.NotApplied, text: st.Code().String() + ": " + st.Message()}
	if hasReason(st, kv.ReasonWaiting) {
		re.waiting = strings.TrimSuffix(st.Message(), " ("+kv.NotApplied.String()+")")
	}
	switch st.Code() {
	case codes.Unimplemented:
		if !said {
			re.text = fmt.Sprintf("%s does not serve this request (%s)", addr, st.Message())
		}
		return re
	case codes.DeadlineExceeded:
		if !said {
			re.text = fmt.Sprintf("%s did not answer within %s: is it overloaded or stuck? -timeout allows more time", addr, timeout)
		}
	case codes.Unavailable, codes.Unknown, codes.Internal, codes.Canceled:
		if !said {
			re.text = fmt.Sprintf("%s: %s", addr, re.text)
		}
	default:
		return re
	}
	if e == mutates {
		re.outcome = outcome
		if !said {
			re.text += "; " + outcome.String() + ": it may have taken effect, or may still"
		}
	}
	return re
}

// saidOutcome returns what a server's error says became of a mutation. Only the
// reason among the status' details counts; its text is for people.
func saidOutcome(st *status.Status) (outcome kv.Outcome, said bool) {
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != kv.ErrorDomain {
			continue
		}
		if info.GetReason() == kv.ReasonNotApplied || info.GetReason() == kv.ReasonNotOwner {
			return kv.NotApplied, true
		}
		return kv.Unknown, true
	}
	return kv.Unknown, false
}

// hasReason reports whether a server's error gives this reason, perhaps among others.
func hasReason(st *status.Status, reason string) bool {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == kv.ErrorDomain && info.GetReason() == reason {
			return true
		}
	}
	return false
}

// mayTryNext tells whether another address may be asked after err.
func mayTryNext(err error, e effect) bool {
	var unreachable *unreachableError
	if errors.As(err, &unreachable) {
		return true
	}
	var re *requestError
	if !errors.As(err, &re) || re.code != codes.Unavailable {
		return false
	}
	return e == reads || re.outcome == kv.NotApplied
}

// joinFailures makes one line of what happened at each address.
func joinFailures(failures []error) error {
	if len(failures) == 1 {
		return failures[0]
	}
	texts := make([]string, len(failures))
	for i, err := range failures {
		texts[i] = err.Error()
		var unreachable *unreachableError
		if errors.As(err, &unreachable) {
			texts[i] = unreachable.addr + ": " + unreachable.reason
		}
	}
	return fmt.Errorf("none of the %d addresses served the request: %s", len(failures), strings.Join(texts, "; "))
}

// localError is an error of our own inside a request, such as a failed write
// to stdout: no reason to ask another server.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// checkStatus turns the status inside a response into an error.
func checkStatus(st *serverpb.Status) error { return admin.Check(st, nil) }
