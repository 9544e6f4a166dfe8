package mastertest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/server/servertest"
)

// Impatient connects to another server of a service, which ends streams whose readers take
// nothing for 50 ms, and signals each stream that has ended.
func Impatient(t *testing.T, desc *grpc.ServiceDesc, service any) (conn *grpc.ClientConn, ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{}, 10)
	s := servertest.Start(t, servertest.Options{
		Stall:    2 * time.Second, // more than the client is held up on a busy machine
		Register: func(s grpc.ServiceRegistrar) { s.RegisterService(noticing(desc, ended), service) },
	})
	return servertest.Connect(t, s.Addr), ended
}

// noticing is a service that signals when a stream has ended.
func noticing(desc *grpc.ServiceDesc, ended chan struct{}) *grpc.ServiceDesc {
	out := *desc
	out.Streams = slices.Clone(desc.Streams)
	for i, s := range desc.Streams {
		out.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error {
			defer func() { ended <- struct{}{} }()
			return s.Handler(srv, stream)
		}
	}
	return &out
}

// ResumeOf is what the error of a stream says of where to resume.
func ResumeOf(t *testing.T, err error) map[string]string {
	t.Helper()
	if status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "stream-stall-timeout") {
		t.Fatalf("it ends with %v", err)
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == kv.ErrorDomain && info.GetReason() == kv.ReasonStalled {
			return info.GetMetadata()
		}
	}
	t.Fatalf("%v does not tell where to resume", err)
	return nil
}

// Stall takes one message of a stream, waits until the server has given the stream
// up, and takes what is left.
func Stall[M any](t *testing.T, s grpc.ServerStreamingClient[M], err error, ended chan struct{}, take func(*M)) error {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	take(m)
	<-ended
	for {
		if m, err = s.Recv(); err != nil {
			return err
		}
		take(m)
	}
}
