package nodes

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Effect says whether a request changes anything, which decides whether it may be
// repeated.
type Effect bool

const (
	// Reads may be repeated.
	Reads Effect = false
	// Mutates may be repeated only if the request was not sent, or the server says
	// that it had no effect.
	Mutates Effect = true
)

// Call runs request against the addresses in turn until one serves it. It tries the
// next address only if the request cannot have had an effect: no connection was made,
// or the server is unavailable and the request only reads, or the server says that the
// request was not applied.
//
// Options.Timeout bounds each request, and, once, connecting to all addresses.
func (c *Client) Call(ctx context.Context, e Effect, request func(context.Context, grpc.ClientConnInterface) error) error {
	dialUntil := time.Now().Add(c.Timeout)
	var failures []error
	for i, addr := range c.Addrs {
		err := c.callOne(ctx, addr, time.Until(dialUntil)/time.Duration(len(c.Addrs)-i), e, request)
		if err == nil || !mayTryNext(err, e) || ctx.Err() != nil {
			return err
		}
		failures = append(failures, err)
	}
	return joinFailures(failures)
}

func (c *Client) callOne(ctx context.Context, addr string, dialLimit time.Duration, e Effect,
	request func(context.Context, grpc.ClientConnInterface) error) error {
	dialCtx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := c.Connect(dialCtx, addr)
	if err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return c.explain(request(callCtx, conn), addr, e)
}

// RequestError is a failed request, in words for people.
type RequestError struct {
	Code    codes.Code
	Outcome kv.Outcome // of a mutation
	Waiting string     // what the node waits for to become a member of a cluster; empty for nothing
	// Elsewhere reports that another node serves the request, which had no effect here: the
	// cluster has removed the node, or it is a slave.
	Elsewhere bool
	text      string
}

func (e *RequestError) Error() string { return e.text }

// explain puts the error of a request into words. What the server said is kept as it
// is; what gRPC says on this side gets the address and, after a mutation, the warning
// that it may have taken effect.
func (c *Client) explain(err error, addr string, e Effect) error {
	var local *localError
	if err == nil || errors.As(err, &local) {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	outcome, said := saidOutcome(st)
	if !said && refusesClear(c.Options, st.Message()) {
		return &UnreachableError{addr, st.Message(), advice(c.Options, st.Message())}
	}
	if text, unsent := strings.CutPrefix(st.Message(), "grpc: error while marshaling: "); unsent && !said {
		return &RequestError{Code: codes.InvalidArgument, Outcome: kv.NotApplied, text: fmt.Sprintf("the request cannot be sent: %s (%s)", text, kv.NotApplied)}
	}
	if !said && refusedByHTTP(st) {
		return &UnreachableError{addr, st.Message(), "what listens there serves HTTP and no gRPC: is it a proxy, or another program? -a names the gRPC port (listen-addr)"}
	}
	re := &RequestError{Code: st.Code(), Outcome: kv.NotApplied, text: st.Code().String() + ": " + st.Message()}
	re.Elsewhere = (hasReason(st, kv.ReasonRemoved) || hasReason(st, kv.ReasonSlave)) && hasReason(st, kv.ReasonNotApplied)
	if hasReason(st, kv.ReasonWaiting) {
		re.Waiting = strings.TrimSuffix(st.Message(), " ("+kv.NotApplied.String()+")")
	}
	switch st.Code() {
	case codes.Unimplemented:
		if !said {
			re.text = fmt.Sprintf("%s does not serve this request (%s): is it a node's Raft port (nexus-node-url), or of an older release? -a names the gRPC port (listen-addr)",
				addr, st.Message())
		}
		return re
	case codes.Unauthenticated:
		re.text += "; " + unauthenticated(c.Options)
		return re
	case codes.DeadlineExceeded:
		if !said {
			re.text = fmt.Sprintf("%s did not answer within %s: is it overloaded or stuck? -timeout allows more time", addr, c.Timeout)
		}
	case codes.Unavailable, codes.Unknown, codes.Internal, codes.Canceled:
		if !said {
			re.text = fmt.Sprintf("%s: %s", addr, re.text)
		}
	default:
		return re
	}
	if e == Mutates {
		re.Outcome = outcome
		if !said {
			re.text += "; " + outcome.String() + ": it may have taken effect, or may still"
		}
	}
	return re
}

// refusedByHTTP reports whether gRPC has made a status of an answer that only an HTTP server gives:
// that the path does not exist, or that the caller may not. Of a gateway's other answers it is not
// known what became of the request.
func refusedByHTTP(st *status.Status) bool {
	switch st.Code() {
	case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
		return strings.HasPrefix(st.Message(), "unexpected HTTP status code received from server")
	}
	return false
}

// removed is the error of a node that its cluster has removed, with what it says of that.
func removed(text string) error {
	st, err := status.New(codes.FailedPrecondition, text).WithDetails(
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonNotApplied},
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonRemoved})
	if err != nil {
		return status.Error(codes.FailedPrecondition, text)
	}
	return st.Err()
}

// saidOutcome returns the outcome of a mutation that a server's error states. Only the
// reason among the status' details counts: the text is for people.
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

// mayTryNext reports whether another address may be asked after err.
func mayTryNext(err error, e Effect) bool {
	var unreachable *UnreachableError
	if errors.As(err, &unreachable) {
		return true
	}
	var elsewhere *elsewhereError
	if errors.As(err, &elsewhere) {
		return true
	}
	var re *RequestError
	if !errors.As(err, &re) || re.Code != codes.Unavailable && !re.Elsewhere {
		return false
	}
	return e == Reads || re.Outcome == kv.NotApplied
}

// joinFailures returns one error that says in one line what failed at each address.
func joinFailures(failures []error) error {
	if len(failures) == 1 {
		return failures[0]
	}
	texts := make([]string, len(failures))
	for i, err := range failures {
		texts[i] = err.Error()
		var unreachable *UnreachableError
		if errors.As(err, &unreachable) {
			texts[i] = unreachable.Addr + ": " + unreachable.Why()
		}
	}
	return &failedError{failures, fmt.Sprintf("none of the %d addresses served the request: %s", len(failures), strings.Join(texts, "; "))}
}

// failedError is the error of several addresses.
type failedError struct {
	failures []error
	text     string
}

func (e *failedError) Error() string { return e.text }

// Passing reports whether a request that reads may succeed later, at the same addresses: one of
// them could not be reached or was not available.
func Passing(err error) bool {
	var failed *failedError
	if errors.As(err, &failed) {
		return slices.ContainsFunc(failed.failures, Passing)
	}
	var elsewhere *elsewhereError
	return !errors.As(err, &elsewhere) && mayTryNext(err, Reads)
}

// localError is what Local returns.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// CheckStatus turns the status inside a response into an error.
func CheckStatus(st *serverpb.Status) error { return admin.Check(st, nil) }

// Local marks an error inside a request that no server is to blame for, such as a
// failed write to stdout: no other address is asked.
func Local(err error) error { return &localError{err} }

// elsewhereError is what Elsewhere returns.
type elsewhereError struct{ err error }

func (e *elsewhereError) Error() string { return e.err.Error() }
func (e *elsewhereError) Unwrap() error { return e.err }

// Elsewhere marks an error inside a request that had no effect: the next address may serve it,
// and this one does not later either.
func Elsewhere(err error) error { return &elsewhereError{err} }
