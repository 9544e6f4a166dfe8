package master

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// mutation is a request that changes the keys of one vBucket.
type mutation interface {
	GetRequestId() *serverpb.RequestID
	GetCluster() uint64
	GetAck() serverpb.AckLevel
}

// ackOf is the level that a request asks for.
func ackOf(level serverpb.AckLevel) (kv.Ack, error) {
	if _, known := serverpb.AckLevel_name[int32(level)]; !known {
		return 0, kv.Errorf(kv.Invalid, "the request asks for ack level %d, which this release does not know", level)
	}
	return kv.Ack(level), nil
}

// mutate proposes the command of a request at the owner of its key. fits is why the request
// exceeds a limit, if it does; answer makes the response of the result.
func mutate[Resp any](ctx context.Context, s *KV, c route.Call, r mutation, fits error, cmd *command.Command, answer func(command.Result) *Resp) (*Resp, error) {
	id, err := requestID(r.GetRequestId())
	if err == nil {
		err = fits
	}
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	v := s.keyspace.Of(cmd.Mutations[0].Key)
	if err := checkCluster(v, r.GetCluster()); err != nil {
		return nil, err
	}
	cmd.Request = id
	if cmd.Ack, err = ackOf(r.GetAck()); err != nil {
		return nil, route.WithOutcome(err)
	}
	return proposeAtOwner(ctx, s.router, v, c, r, cmd, answer)
}

// proposeAtOwner proposes a command here if this node owns the vBucket, and otherwise sends
// the request to the owner. The command may be proposed again after the owner has changed:
// the replica that rejected it has let go of it.
func proposeAtOwner[Resp any](ctx context.Context, router *route.Router, v route.VBucket, c route.Call, r any, cmd *command.Command, answer func(command.Result) *Resp) (*Resp, error) {
	return route.AtOwner(ctx, router, v, c, r, func(ctx context.Context) (*Resp, error) {
		res, err := propose(ctx, v, cmd)
		if err != nil {
			return nil, err
		}
		return answer(res), nil
	})
}

// propose sends a command to the vBucket of its keys, and turns results that reject it into
// errors. Every error says what became of the mutation.
func propose(ctx context.Context, v route.VBucket, c *command.Command) (command.Result, error) {
	res, err := v.Propose(ctx, c)
	if err != nil {
		return res, route.WithOutcome(err)
	}
	key := c.Mutations[0].Key
	switch res.Code {
	case command.OK, command.NotUpdated:
		return res, nil
	case command.NotACounter:
		err = kv.Errorf(kv.Precondition, "key %.64q does not hold a counter, which is 8 bytes big endian; count under another key, or delete this one first", key)
	case command.Overflow:
		err = kv.Errorf(kv.Precondition, "counter %.64q is %d; the sum would leave the range of int64", key, res.Counter)
	case command.RequestMismatch:
		err = kv.Errorf(kv.Invalid, "request %d of client %x was used for another request before; an id is only for retries of the same request", c.Request.Sequence, c.Request.Client)
	case command.StaleRequest:
		// The client itself says that it had the answer of an earlier attempt.
		err = kv.UnknownOutcome(kv.Precondition, fmt.Errorf(
			"request %d of client %x was acknowledged before, so its result is forgotten; this attempt was not applied, and the client has had the result of the first one; use a new sequence for another request",
			c.Request.Sequence, c.Request.Client))
	case command.TooLate:
		err = kv.UnknownOutcome(kv.TooLate, fmt.Errorf(
			"request %d of client %x is no longer remembered: an earlier attempt may have been applied, and this one was not; read the key before you write again, with a new sequence",
			c.Request.Sequence, c.Request.Client))
	default:
		err = kv.Errorf(kv.Internal, "unexpected result %v", res.Code)
	}
	return res, route.WithOutcome(err)
}
