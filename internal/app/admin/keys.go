package admin

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/ops/keys"
	"github.com/dkvdb/dkv/internal/peer"
)

// Calls makes calls of the node's gRPC server without a connection to it: under its limits,
// and counted and logged as those of its clients.
type Calls interface {
	Invoke(ctx context.Context, method string, request proto.Message) (any, error)
	Stream(ctx context.Context, method string, request proto.Message, send func(any) error) error
}

// keys returns what serves keys over HTTP: what gRPC serves, under the same rules.
func (a *Admin) keys(guard *access.Guard) *keys.Service {
	names := a.Node.Layout.VBuckets
	return keys.New(keys.Options{
		KV:      a.keyService,
		VBucket: func(key []byte) string { return names[kv.VBucketOf(key, len(names))] },
		Allow:   ops.Allow(guard),
	})
}

// keyService is the service of keys, or why there is none.
func (a *Admin) keyService() (serverpb.DKVServer, error) {
	if err := a.starting(); err != nil {
		return nil, err
	}
	if a.Node.Config.Role == config.RoleDiscovery {
		return nil, kv.Errorf(kv.Unimplemented, "%s", role.Elsewhere(a.Role.Name(), serverpb.DKV_ServiceDesc.ServiceName))
	}
	return through{calls: a.Calls()}, nil
}

// through is the service of keys, as those who call the gRPC server see it.
type through struct {
	serverpb.UnimplementedDKVServer
	calls Calls
}

// Get implements DKV.
func (t through) Get(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	return invoke[*serverpb.GetResponse](ctx, t.calls, serverpb.DKV_Get_FullMethodName, r)
}

// Put implements DKV.
func (t through) Put(ctx context.Context, r *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	return invoke[*serverpb.PutResponse](ctx, t.calls, serverpb.DKV_Put_FullMethodName, r)
}

// CompareAndSet implements DKV.
func (t through) CompareAndSet(ctx context.Context, r *serverpb.CompareAndSetRequest) (*serverpb.CompareAndSetResponse, error) {
	return invoke[*serverpb.CompareAndSetResponse](ctx, t.calls, serverpb.DKV_CompareAndSet_FullMethodName, r)
}

// Delete implements DKV.
func (t through) Delete(ctx context.Context, r *serverpb.DeleteRequest) (*serverpb.DeleteResponse, error) {
	return invoke[*serverpb.DeleteResponse](ctx, t.calls, serverpb.DKV_Delete_FullMethodName, r)
}

// Iterate implements DKV.
func (t through) Iterate(r *serverpb.IterateRequest, s grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	return peer.FromStatus(t.calls.Stream(s.Context(), serverpb.DKV_Iterate_FullMethodName, r, s.SendMsg))
}

func invoke[Answer proto.Message](ctx context.Context, c Calls, method string, r proto.Message) (answer Answer, err error) {
	out, err := c.Invoke(ctx, method, r)
	if err != nil {
		return answer, peer.FromStatus(err)
	}
	return out.(Answer), nil
}
