package master

import (
	"context"
	"runtime"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// KV serves the DKV service over a keyspace.
type KV struct {
	serverpb.UnimplementedDKVServer
	keyspace *route.Keyspace
	limits   Limits
	router   *route.Router
	making   *fair.Gate // of iterations
}

// NewKV makes the service. A nil router forwards nothing: requests for vBuckets that this node
// does not own are then rejected.
func NewKV(k *route.Keyspace, limits Limits, r *route.Router) *KV {
	return &KV{keyspace: k, limits: limits, router: r, making: newMaking(runtime.GOMAXPROCS(0))}
}

// The calls that the owner of a vBucket serves.
var (
	putCall           = route.Call{Method: serverpb.DKV_Put_FullMethodName, Mutates: true, Small: true}
	multiPutCall      = route.Call{Method: serverpb.DKV_MultiPut_FullMethodName, Mutates: true, Small: true}
	deleteCall        = route.Call{Method: serverpb.DKV_Delete_FullMethodName, Mutates: true, Small: true}
	compareAndSetCall = route.Call{Method: serverpb.DKV_CompareAndSet_FullMethodName, Mutates: true, Small: true}
	incrementCall     = route.Call{Method: serverpb.DKV_Increment_FullMethodName, Mutates: true, Small: true}
	getCall           = route.Call{Method: serverpb.DKV_Get_FullMethodName, Small: true}
	multiGetCall      = route.Call{Method: serverpb.DKV_MultiGet_FullMethodName, Small: true}
	iterateCall       = route.Call{Method: serverpb.DKV_Iterate_FullMethodName}
)

// Put implements DKV.
func (s *KV) Put(ctx context.Context, r *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	return mutate(ctx, s, putCall, r, s.limits.checkPair(r.Key, r.Value), &command.Command{
		Kind:      command.Write,
		Mutations: []kv.Mutation{{Key: r.Key, Value: r.Value, ExpireTS: r.ExpireTS}},
	}, func(res command.Result) *serverpb.PutResponse {
		return &serverpb.PutResponse{Status: &serverpb.Status{}, Index: res.Index, History: res.History, Acked: serverpb.AckLevel(res.Acked)}
	})
}

// Delete implements DKV.
func (s *KV) Delete(ctx context.Context, r *serverpb.DeleteRequest) (*serverpb.DeleteResponse, error) {
	return mutate(ctx, s, deleteCall, r, s.limits.checkDelete(r.Key), &command.Command{
		Kind:      command.Write,
		Mutations: []kv.Mutation{{Key: r.Key, Delete: true}},
	}, func(res command.Result) *serverpb.DeleteResponse {
		return &serverpb.DeleteResponse{Status: &serverpb.Status{}, Index: res.Index, History: res.History, Acked: serverpb.AckLevel(res.Acked)}
	})
}

// CompareAndSet implements DKV.
func (s *KV) CompareAndSet(ctx context.Context, r *serverpb.CompareAndSetRequest) (*serverpb.CompareAndSetResponse, error) {
	fits := s.limits.checkPair(r.Key, r.NewValue)
	if fits == nil {
		fits = s.limits.checkExpected(r.OldValue)
	}
	return mutate(ctx, s, compareAndSetCall, r, fits, &command.Command{
		Kind:      command.CompareAndSet,
		Mutations: []kv.Mutation{{Key: r.Key, Value: r.NewValue, ExpireTS: r.ExpireTS}},
		Expect:    r.OldValue,
	}, func(res command.Result) *serverpb.CompareAndSetResponse {
		return &serverpb.CompareAndSetResponse{Status: &serverpb.Status{}, Updated: res.Code == command.OK, Index: res.Index, History: res.History, Acked: serverpb.AckLevel(res.Acked)}
	})
}

// Increment implements DKV.
func (s *KV) Increment(ctx context.Context, r *serverpb.IncrementRequest) (*serverpb.IncrementResponse, error) {
	return mutate(ctx, s, incrementCall, r, s.limits.checkKey(r.Key), &command.Command{
		Kind:      command.Increment,
		Mutations: []kv.Mutation{{Key: r.Key, ExpireTS: r.ExpireTS}},
		Delta:     r.Delta,
	}, func(res command.Result) *serverpb.IncrementResponse {
		return &serverpb.IncrementResponse{Status: &serverpb.Status{}, Value: res.Counter, Index: res.Index, History: res.History, Acked: serverpb.AckLevel(res.Acked)}
	})
}

// Get implements DKV.
func (s *KV) Get(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	opts, err := readOptions(r)
	if err != nil {
		return nil, err
	}
	if err := checkRead(r.Key); err != nil {
		return nil, err
	}
	v := s.keyspace.Of(r.Key)
	if err := checkCluster(v, r.GetCluster()); err != nil {
		return nil, err
	}
	return read(ctx, s.router, v, getCall, r, opts, func(ctx context.Context) (*serverpb.GetResponse, error) {
		pair, found, info, err := v.Get(ctx, r.Key, opts)
		if err != nil {
			return nil, err
		}
		return &serverpb.GetResponse{
			Status:   &serverpb.Status{},
			Value:    pair.Value,
			Found:    found,
			Index:    info.Index,
			Age:      ageMillis(info),
			ExpireTS: pair.ExpireTS,
		}, nil
	})
}
