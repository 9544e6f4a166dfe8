package nodes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// CallStream is Call for a stream, which may last for as long as it makes progress:
// request calls arrived for each message, and what that returns when it waits for the next
// one, which restarts the time limit. What is done with a message may take any time, as
// printing it does while a pager waits for its user. After the first message no other
// address is tried, since its answer would start again from the beginning.
func (c *Client) CallStream(ctx context.Context, request func(ctx context.Context, conn grpc.ClientConnInterface, arrived func() (done func())) error) error {
	stalled := status.Errorf(codes.DeadlineExceeded, "no message within %s", c.Timeout)
	return c.Call(ctx, Reads, func(_ context.Context, conn grpc.ClientConnInterface) error {
		streamCtx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		limit := time.AfterFunc(c.Timeout, func() { cancel(stalled) })
		defer limit.Stop()
		begun := false
		err := request(streamCtx, conn, func() (done func()) {
			begun = true
			limit.Stop()
			return func() { limit.Reset(c.Timeout) }
		})
		if err != nil && errors.Is(context.Cause(streamCtx), stalled) {
			err = stalled
		}
		var local *localError
		if err != nil && begun && !errors.As(err, &local) {
			// What the details of the error say is for programs: people have the last line.
			said, _, _ := strings.Cut(status.Convert(err).Message(), "; the details of this error")
			return &localError{fmt.Errorf("the iteration was cut off, its result is incomplete: %s; with the last key that was printed as START it goes on from there", said)}
		}
		return err
	})
}
