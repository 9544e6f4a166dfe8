package refserver

import (
	"context"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

const echoService = "dkv.bench.Echo"

// EchoMethod is the method that answers with its request, a PutRequest. It is not part
// of DKV's API, so that no proto file describes it.
const EchoMethod = "/" + echoService + "/Echo"

// ServeEcho answers on l until ctx ends: the upper bound that the transport sets. The
// messages are those of DKV, so that the payload is the same in either direction,
// gRPC's options are the defaults, and nothing is stored. Every put succeeds, and every
// key that is read holds the value put last.
func ServeEcho(ctx context.Context, l net.Listener) error {
	return serve(ctx, l, func(s *grpc.Server) {
		e := &echoServer{}
		e.put([]byte{})
		serverpb.RegisterDKVServer(s, e)
		s.RegisterService(&grpc.ServiceDesc{
			ServiceName: echoService,
			HandlerType: (*any)(nil),
			Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: echoHandler}},
		}, nil)
	})
}

func echoHandler(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	req := &serverpb.PutRequest{}
	if err := decode(req); err != nil {
		return nil, err
	}
	return req, nil
}

type echoServer struct {
	serverpb.UnimplementedDKVServer
	// value is what was put last.
	value atomic.Pointer[[]byte]
}

func (e *echoServer) put(value []byte) { e.value.Store(&value) }

func (e *echoServer) Put(_ context.Context, req *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	e.put(req.GetValue())
	return &serverpb.PutResponse{Status: &serverpb.Status{}, Index: 1}, nil
}

func (e *echoServer) MultiPut(_ context.Context, req *serverpb.MultiPutRequest) (*serverpb.PutResponse, error) {
	if puts := req.GetPutRequest(); len(puts) > 0 {
		e.put(puts[len(puts)-1].GetValue())
	}
	return &serverpb.PutResponse{Status: &serverpb.Status{}, Index: 1}, nil
}

func (e *echoServer) Get(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	return &serverpb.GetResponse{Status: &serverpb.Status{}, Value: *e.value.Load(), Found: true, Index: 1}, nil
}

func (e *echoServer) MultiGet(_ context.Context, req *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	res := &serverpb.MultiGetResponse{Status: &serverpb.Status{}, Index: 1}
	for _, key := range req.GetKeys() {
		res.KeyValues = append(res.KeyValues, &serverpb.KVPair{Key: key, Value: *e.value.Load()})
	}
	return res, nil
}

func (e *echoServer) Delete(context.Context, *serverpb.DeleteRequest) (*serverpb.DeleteResponse, error) {
	return &serverpb.DeleteResponse{Status: &serverpb.Status{}, Index: 1}, nil
}

func (e *echoServer) CompareAndSet(context.Context, *serverpb.CompareAndSetRequest) (*serverpb.CompareAndSetResponse, error) {
	return &serverpb.CompareAndSetResponse{Status: &serverpb.Status{}, Updated: true, Index: 1}, nil
}

func (e *echoServer) Increment(_ context.Context, req *serverpb.IncrementRequest) (*serverpb.IncrementResponse, error) {
	return &serverpb.IncrementResponse{Status: &serverpb.Status{}, Value: req.GetDelta(), Index: 1}, nil
}

// Iterate sends as many pairs as were asked for, in one message.
func (e *echoServer) Iterate(req *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	res := &serverpb.IterateResponse{Status: &serverpb.Status{}, Index: 1}
	for range min(req.GetLimit(), 10_000) {
		res.Pairs = append(res.Pairs, &serverpb.KVPair{Key: req.GetStartKey(), Value: *e.value.Load()})
	}
	return stream.Send(res)
}
