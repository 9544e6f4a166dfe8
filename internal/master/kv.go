package master

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// KV serves the DKV service over a keyspace.
type KV struct {
	serverpb.UnimplementedDKVServer
	keyspace *Keyspace
	limits   Limits
	router   *Router
}

// NewKV makes the service. The router may be nil: what is not owned here is then
// refused.
func NewKV(k *Keyspace, limits Limits, r *Router) *KV {
	return &KV{keyspace: k, limits: limits, router: r}
}

// The calls of an owner.
var (
	putCall           = call{method: serverpb.DKV_Put_FullMethodName, mutates: true}
	multiPutCall      = call{method: serverpb.DKV_MultiPut_FullMethodName, mutates: true}
	deleteCall        = call{method: serverpb.DKV_Delete_FullMethodName, mutates: true}
	compareAndSetCall = call{method: serverpb.DKV_CompareAndSet_FullMethodName, mutates: true}
	incrementCall     = call{method: serverpb.DKV_Increment_FullMethodName, mutates: true}
	getCall           = call{method: serverpb.DKV_Get_FullMethodName}
	multiGetCall      = call{method: serverpb.DKV_MultiGet_FullMethodName}
	iterateCall       = call{method: serverpb.DKV_Iterate_FullMethodName}
)

// ok is the status of every response.
func ok() *serverpb.Status { return &serverpb.Status{} }

// Put implements DKV.
func (s *KV) Put(ctx context.Context, r *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	id, err := requestID(r.GetRequestId())
	if err != nil {
		return nil, err
	}
	if err := s.limits.checkPair(r.Key, r.Value); err != nil {
		return nil, err
	}
	v := s.keyspace.Of(r.Key)
	if err := checkCluster(v, r.GetCluster()); err != nil {
		return nil, err
	}
	return atOwner(ctx, s.router, v, putCall, r, func(ctx context.Context) (*serverpb.PutResponse, error) {
		res, err := propose(ctx, v, &command.Command{
			Kind:      command.Write,
			Request:   id,
			Mutations: []kv.Mutation{{Key: r.Key, Value: r.Value, ExpireTS: r.ExpireTS}},
		})
		if err != nil {
			return nil, err
		}
		return &serverpb.PutResponse{Status: ok(), Index: res.Index}, nil
	})
}

// Delete implements DKV.
func (s *KV) Delete(ctx context.Context, r *serverpb.DeleteRequest) (*serverpb.DeleteResponse, error) {
	id, err := requestID(r.GetRequestId())
	if err != nil {
		return nil, err
	}
	if err := s.limits.checkKey(r.Key); err != nil {
		return nil, err
	}
	v := s.keyspace.Of(r.Key)
	if err := checkCluster(v, r.GetCluster()); err != nil {
		return nil, err
	}
	return atOwner(ctx, s.router, v, deleteCall, r, func(ctx context.Context) (*serverpb.DeleteResponse, error) {
		res, err := propose(ctx, v, &command.Command{
			Kind:      command.Write,
			Request:   id,
			Mutations: []kv.Mutation{{Key: r.Key, Delete: true}},
		})
		if err != nil {
			return nil, err
		}
		return &serverpb.DeleteResponse{Status: ok(), Index: res.Index}, nil
	})
}

// CompareAndSet implements DKV.
func (s *KV) CompareAndSet(ctx context.Context, r *serverpb.CompareAndSetRequest) (*serverpb.CompareAndSetResponse, error) {
	id, err := requestID(r.GetRequestId())
	if err != nil {
		return nil, err
	}
	if err := s.limits.checkPair(r.Key, r.NewValue); err != nil {
		return nil, err
	}
	if err := s.limits.checkPair(r.Key, r.OldValue); err != nil {
		return nil, fmt.Errorf("oldValue: %w", err)
	}
	v := s.keyspace.Of(r.Key)
	if err := checkCluster(v, r.GetCluster()); err != nil {
		return nil, err
	}
	return atOwner(ctx, s.router, v, compareAndSetCall, r, func(ctx context.Context) (*serverpb.CompareAndSetResponse, error) {
		res, err := propose(ctx, v, &command.Command{
			Kind:      command.CompareAndSet,
			Request:   id,
			Mutations: []kv.Mutation{{Key: r.Key, Value: r.NewValue, ExpireTS: r.ExpireTS}},
			Expect:    r.OldValue,
		})
		if err != nil {
			return nil, err
		}
		return &serverpb.CompareAndSetResponse{Status: ok(), Updated: res.Code == command.OK, Index: res.Index}, nil
	})
}

// Increment implements DKV.
func (s *KV) Increment(ctx context.Context, r *serverpb.IncrementRequest) (*serverpb.IncrementResponse, error) {
	id, err := requestID(r.GetRequestId())
	if err != nil {
		return nil, err
	}
	if err := s.limits.checkKey(r.Key); err != nil {
		return nil, err
	}
	v := s.keyspace.Of(r.Key)
	if err := checkCluster(v, r.GetCluster()); err != nil {
		return nil, err
	}
	return atOwner(ctx, s.router, v, incrementCall, r, func(ctx context.Context) (*serverpb.IncrementResponse, error) {
		res, err := propose(ctx, v, &command.Command{
			Kind:      command.Increment,
			Request:   id,
			Mutations: []kv.Mutation{{Key: r.Key, ExpireTS: r.ExpireTS}},
			Delta:     r.Delta,
		})
		if err != nil {
			return nil, err
		}
		return &serverpb.IncrementResponse{Status: ok(), Value: res.Counter, Index: res.Index}, nil
	})
}

// propose sends a mutation to the vBucket of its keys and turns results that
// are refusals into errors. Every error says what became of the mutation.
func propose(ctx context.Context, v VBucket, c *command.Command) (command.Result, error) {
	res, err := v.Propose(ctx, c)
	if err != nil {
		return res, withOutcome(err)
	}
	key := c.Mutations[0].Key
	switch res.Code {
	case command.OK, command.NotUpdated:
		return res, nil
	case command.NotACounter:
		err = kv.Errorf(kv.Precondition, "key %.64q does not hold a counter, which is 8 bytes big endian", key)
	case command.Overflow:
		err = kv.Errorf(kv.Precondition, "counter %.64q is %d; the sum would leave the range of int64", key, res.Counter)
	case command.RequestMismatch:
		err = kv.Errorf(kv.Invalid, "request %d of client %x was another one before; an id is for retries of the same request", c.Request.Sequence, c.Request.Client)
	case command.StaleRequest:
		// It has an earlier attempt behind it, by the client's own word.
		err = kv.UnknownOutcome(kv.Precondition, fmt.Errorf(
			"request %d of client %x was acknowledged already, so that its result is forgotten; this attempt was not applied, and what became of the first the client has been told; use a new sequence for another request",
			c.Request.Sequence, c.Request.Client))
	case command.TooLate:
		err = kv.UnknownOutcome(kv.TooLate, fmt.Errorf(
			"request %d of client %x is not remembered any more: it is too late to tell whether an earlier attempt was applied, and this one was not; read what is there before writing again, with a new sequence",
			c.Request.Sequence, c.Request.Client))
	default:
		err = kv.Errorf(kv.Internal, "unexpected result %v", res.Code)
	}
	return res, withOutcome(err)
}

// withOutcome appends the outcome to the error's text: whoever reads it has to
// decide whether to retry.
func withOutcome(err error) error { return fmt.Errorf("%w (%s)", err, kv.OutcomeOf(err)) }

// Get implements DKV.
func (s *KV) Get(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	opts, err := readOptions(r)
	if err != nil {
		return nil, err
	}
	if err := s.limits.checkKey(r.Key); err != nil {
		return nil, err
	}
	v := s.keyspace.Of(r.Key)
	if err := checkCluster(v, r.GetCluster()); err != nil {
		return nil, err
	}
	if opts.Level != kv.Linearizable {
		return getHere(ctx, v, r.Key, opts)
	}
	return atOwner(ctx, s.router, v, getCall, r, func(ctx context.Context) (*serverpb.GetResponse, error) {
		return getHere(ctx, v, r.Key, opts)
	})
}

func getHere(ctx context.Context, v VBucket, key []byte, opts kv.ReadOptions) (*serverpb.GetResponse, error) {
	ctx, cancel := answerable(ctx, opts)
	defer cancel()
	pair, found, info, err := v.Get(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	return &serverpb.GetResponse{
		Status:   ok(),
		Value:    pair.Value,
		Found:    found,
		Index:    info.Index,
		Age:      ageMillis(info),
		ExpireTS: pair.ExpireTS,
	}, nil
}

// answerMargin is the least time before the caller's deadline that a wait ends, so
// that the reason still reaches the caller.
const answerMargin = 20 * time.Millisecond

// answerable shortens the deadline of a read that may have to wait.
func answerable(ctx context.Context, opts kv.ReadOptions) (context.Context, context.CancelFunc) {
	if opts.MinIndex == 0 && opts.MaxAge == 0 {
		return ctx, func() {}
	}
	return beforeDeadline(ctx)
}

func ageMillis(info kv.ReadInfo) uint64 { return uint64(info.Age.Milliseconds()) }

// millis converts a count of milliseconds from the wire, however large.
func millis(n uint64) time.Duration {
	if n > math.MaxInt64/uint64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Millisecond
}
