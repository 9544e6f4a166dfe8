package server

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a DKV service that does what a test says.
type service struct {
	serverpb.UnimplementedDKVServer
	serverpb.UnimplementedDKVNodeServer
	serverpb.UnimplementedDKVDiscoveryNodeServer
	get      func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error)
	put      func(context.Context, *serverpb.PutRequest) (*serverpb.PutResponse, error)
	multiPut func(context.Context, *serverpb.MultiPutRequest) (*serverpb.PutResponse, error)
	inject   func(*serverpb.InjectFaultRequest)
	iterate  func(*serverpb.IterateRequest, grpc.ServerStreamingServer[serverpb.IterateResponse]) error
}

func (s *service) Get(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	if s.get == nil {
		return &serverpb.GetResponse{Status: &serverpb.Status{}, Value: r.Key}, nil
	}
	return s.get(ctx, r)
}

func (s *service) Put(ctx context.Context, r *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	if s.put == nil {
		return s.UnimplementedDKVServer.Put(ctx, r)
	}
	return s.put(ctx, r)
}

func (s *service) MultiPut(ctx context.Context, r *serverpb.MultiPutRequest) (*serverpb.PutResponse, error) {
	if s.multiPut == nil {
		return s.UnimplementedDKVServer.MultiPut(ctx, r)
	}
	return s.multiPut(ctx, r)
}

func (s *service) Iterate(r *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	if s.iterate == nil {
		return stream.Send(&serverpb.IterateResponse{Key: r.KeyPrefix})
	}
	return s.iterate(r, stream)
}

func (s *service) InjectFault(r *serverpb.InjectFaultRequest, stream grpc.ServerStreamingServer[serverpb.FaultState]) error {
	s.inject(r)
	return stream.Send(&serverpb.FaultState{State: "ended"})
}

func (s *service) PauseWrites(context.Context, *emptypb.Empty) (*serverpb.Status, error) {
	return nil, status.Error(codes.FailedPrecondition, "not now")
}

// rig is a running server with a client.
type rig struct {
	*Server
	serverpb.DKVClient
	t       testing.TB
	conn    *grpc.ClientConn
	service *service
	metrics *prometheus.Registry
	log     *testkit.Log
	audit   *testkit.Log
	stop    func()
	stopFor context.CancelCauseFunc
	ran     chan struct{}
	runErr  error // once ran is closed
}

func logger(w *testkit.Log) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

func options(t testing.TB, s *service) (Options, *testkit.Log, *testkit.Log) {
	t.Helper()
	listener, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log, audited := &testkit.Log{}, &testkit.Log{}
	return Options{
		Listener:   listener,
		Reflection: true,
		Register: func(r grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(r, s)
			serverpb.RegisterDKVNodeServer(r, s)
			serverpb.RegisterDKVDiscoveryNodeServer(r, s)
		},
		MaxMessageSize: 1 << 20,
		MaxInFlight:    100,
		MaxStreams:     100,
		Audited:        func(m string) bool { return m == serverpb.DKVNode_PauseWrites_FullMethodName },
		DrainTimeout:   time.Minute,
		Metrics:        prometheus.NewRegistry(),
		Log:            logger(log),
		Audit:          audit.ToCommon(logger(audited)),
	}, log, audited
}

// newRig runs a server until the test ends.
func newRig(t testing.TB, changes ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, service: &service{}, ran: make(chan struct{})}
	opts, log, audited := options(t, r.service)
	for _, c := range changes {
		c(&opts)
	}
	r.log, r.audit, r.metrics = log, audited, opts.Metrics.(*prometheus.Registry)
	r.Server = New(opts)
	ctx, stop := context.WithCancelCause(context.Background())
	r.stop, r.stopFor = func() { stop(nil) }, stop
	go func() {
		defer close(r.ran)
		r.runErr = r.Server.Run(ctx)
	}()
	r.conn = dial(t, opts.Listener.Addr())
	r.DKVClient = serverpb.NewDKVClient(r.conn)
	t.Cleanup(func() {
		r.conn.Close()
		r.stop()
		<-r.ran
		if r.runErr != nil {
			t.Error("run:", r.runErr)
		}
	})
	return r
}

func dial(t testing.TB, addr net.Addr) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// from has the server see connections from another host.
func from(host string) func(*Options) {
	return func(o *Options) { o.Listener = foreign{o.Listener, &net.TCPAddr{IP: net.ParseIP(host), Port: 1}} }
}

// foreign is a listener whose connections seem to come from an address.
type foreign struct {
	net.Listener
	from net.Addr
}

func (f foreign) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return foreignConn{c, f.from}, nil
}

type foreignConn struct {
	net.Conn
	from net.Addr
}

func (c foreignConn) RemoteAddr() net.Addr { return c.from }

// hold makes Get wait. It returns a channel that tells of each call that has
// begun, and a function that lets them go on.
func (s *service) hold() (begun chan struct{}, release func()) {
	begun, gate := make(chan struct{}, 100), make(chan struct{})
	s.get = func(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		begun <- struct{}{}
		select {
		case <-gate:
			return &serverpb.GetResponse{Value: r.Key}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return begun, sync.OnceFunc(func() { close(gate) })
}

// call runs Get aside.
func (r *rig) call(key string) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := r.Get(r.t.Context(), &serverpb.GetRequest{Key: []byte(key)})
		done <- err
	}()
	return done
}

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if got := status.Convert(err); got.Code() != code || got.Message() != text {
		t.Errorf("%v %q, want %v %q", got.Code(), got.Message(), code, text)
	}
}
