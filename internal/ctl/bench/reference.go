package bench

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

// maxReferenceMessage bounds what the reference servers receive, in bytes.
const maxReferenceMessage = 64 << 20

// The echo method is no part of DKV's API: only reference servers have it, so
// it is described here instead of in a proto file.
const (
	echoService = "dkv.bench.Echo"
	echoMethod  = "/" + echoService + "/Echo"
)

// Listen listens for a reference server, on loopback addresses only.
func Listen(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is not host:port: %w", addr, err)
	}
	if !IsLoopback(host) {
		return nil, fmt.Errorf("%q is not a loopback address: reference servers have no protection", host)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return l, nil
}

// ServeEcho answers on l until ctx is done: the ceiling of the transport. The
// messages are those of DKV, so that the payload is the same in either
// direction, and gRPC's options are the defaults; behind them is nothing. Every
// put succeeds, and every key that is read holds the value put last.
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

// serve runs a gRPC server until ctx is done. Requests that are then under way
// are cut off: whoever ends a reference server is done with it.
func serve(ctx context.Context, l net.Listener, register func(*grpc.Server)) error {
	s := grpc.NewServer(grpc.MaxRecvMsgSize(maxReferenceMessage))
	register(s)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot serve on %s: %w", l.Addr(), err)
	}
	return nil
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
