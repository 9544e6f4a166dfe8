package master

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// MultiPut implements DKV.
func (s *KV) MultiPut(ctx context.Context, r *serverpb.MultiPutRequest) (*serverpb.PutResponse, error) {
	id, err := requestID(r.GetRequestId())
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	if len(r.GetPutRequest()) == 0 { // clients of the earlier system take that for a success
		return &serverpb.PutResponse{Status: &serverpb.Status{}}, nil
	}
	ms, err := s.mutations(r.GetPutRequest())
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	if err := checkCluster(s.keyspace.Of(ms[0].Key), r.GetCluster()); err != nil {
		return nil, err
	}
	if r.GetMaySplit() {
		if parts := s.split(r); len(parts) > 1 {
			return s.multiPutSplit(ctx, parts, id)
		}
	}
	v, err := s.target(ms)
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	return s.multiPut(ctx, v, r, id, ms)
}

// multiPut writes to one vBucket.
func (s *KV) multiPut(ctx context.Context, v route.VBucket, r *serverpb.MultiPutRequest, id kv.RequestID, ms []kv.Mutation) (*serverpb.PutResponse, error) {
	ack, err := ackOf(r.GetAck())
	if err != nil {
		return nil, route.WithOutcome(err)
	}
	cmd := &command.Command{Kind: command.Write, Request: id, Mutations: ms, Ack: ack}
	return proposeAtOwner(ctx, s.router, v, multiPutCall, r, cmd, func(res command.Result) *serverpb.PutResponse {
		return &serverpb.PutResponse{Status: &serverpb.Status{}, Index: res.Index, History: res.History, Acked: serverpb.AckLevel(res.Acked)}
	})
}

func (s *KV) mutations(puts []*serverpb.PutRequest) ([]kv.Mutation, error) {
	ms := make([]kv.Mutation, len(puts))
	for i, p := range puts {
		if err := s.limits.checkPair(p.GetKey(), p.GetValue()); err != nil {
			return nil, fmt.Errorf("put %d of %d: %w", i+1, len(puts), err)
		}
		if p.GetRequestId() != nil {
			return nil, kv.Errorf(kv.Invalid, "put %d of %d has a requestId; it belongs to the whole request", i+1, len(puts))
		}
		if p.GetAck() != serverpb.AckLevel_ACK_DEFAULT {
			return nil, kv.Errorf(kv.Invalid, "put %d of %d has an ack level; it belongs to the whole request", i+1, len(puts))
		}
		ms[i] = kv.Mutation{Key: p.Key, Value: p.Value, ExpireTS: p.ExpireTS}
	}
	return ms, s.limits.checkBatch(ms)
}

// target returns the vBucket that all keys belong to, or an error if they belong to several.
func (s *KV) target(ms []kv.Mutation) (route.VBucket, error) {
	first := s.keyspace.Of(ms[0].Key)
	for i := 1; i < len(ms); i++ {
		if other := s.keyspace.Of(ms[i].Key); other.Name != first.Name {
			return first, kv.Errorf(kv.Invalid,
				"keys %.64q and %.64q are in different vBuckets, %s and %s; a multi-put is atomic within one only; split it, or set maySplit (dkvctl: -split), which gives atomicity up between vBuckets",
				ms[0].Key, ms[i].Key, first.Name, other.Name)
		}
	}
	return first, nil
}

// putPart is the part of a multi-put for one vBucket.
type putPart struct {
	vBucket route.VBucket
	request *serverpb.MultiPutRequest
}

// split divides the puts of a request by vBucket.
func (s *KV) split(r *serverpb.MultiPutRequest) []putPart {
	var parts []putPart
	at := make(map[string]int)
	for _, p := range r.GetPutRequest() {
		v := s.keyspace.Of(p.GetKey())
		i, known := at[v.Name]
		if !known {
			i = len(parts)
			at[v.Name] = i
			parts = append(parts, putPart{v, &serverpb.MultiPutRequest{RequestId: r.GetRequestId(), MaySplit: true, Ack: r.GetAck()}})
		}
		parts[i].request.PutRequest = append(parts[i].request.PutRequest, p)
	}
	return parts
}

// multiPutSplit writes to several vBuckets at the same time. If some fail, the others are
// written all the same, so that the outcome of the whole is unknown.
func (s *KV) multiPutSplit(ctx context.Context, parts []putPart, id kv.RequestID) (*serverpb.PutResponse, error) {
	errs, acked := make([]error, len(parts)), make([]serverpb.AckLevel, len(parts))
	var g errgroup.Group
	for i, p := range parts {
		g.Go(func() error {
			ms, err := s.mutations(p.request.GetPutRequest())
			if err == nil {
				var resp *serverpb.PutResponse
				resp, err = s.multiPut(ctx, p.vBucket, p.request, id, ms)
				acked[i] = resp.GetAcked()
			}
			errs[i] = err
			return err
		})
	}
	first := g.Wait()
	if first == nil {
		return &serverpb.PutResponse{Status: &serverpb.Status{}, Acked: slices.Min(acked)}, nil
	}
	failed, unapplied := 0, true
	for _, err := range errs {
		if err != nil {
			failed++
			unapplied = unapplied && kv.OutcomeOf(err) == kv.NotApplied
		}
	}
	if failed == len(parts) && unapplied {
		return nil, first
	}
	return nil, route.WithOutcome(kv.UnknownOutcome(kv.KindOf(first),
		fmt.Errorf("%d of %d vBuckets are written, the rest: %w", len(parts)-failed, len(parts), first)))
}
