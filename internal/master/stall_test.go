package master

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/server/servertest"
)

// impatient is a connection to a server of the same state that ends streams whose
// readers take nothing for 50 ms, and tells when it has.
func (r *rig) impatient() (conn *grpc.ClientConn, ended chan struct{}) {
	r.t.Helper()
	ended = make(chan struct{}, 10)
	s := servertest.Start(r.t, servertest.Options{
		Stall: 50 * time.Millisecond,
		Register: func(s grpc.ServiceRegistrar) {
			s.RegisterService(noticing(&serverpb.DKV_ServiceDesc, ended), NewKV(r.service.keyspace, limits, nil))
			s.RegisterService(noticing(&serverpb.DKVReplication_ServiceDesc, ended), r.service)
		},
	})
	return servertest.Connect(r.t, s.Addr), ended
}

// noticing is a service that tells when a stream has ended.
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

// resumeOf is what the error of a stream tells of where to resume.
func resumeOf(t *testing.T, err error) map[string]string {
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

// stall takes one message of a stream, waits until the server has given the stream
// up, and takes what is left.
func stall[M any](t *testing.T, s grpc.ServerStreamingClient[M], err error, ended chan struct{}, take func(*M)) error {
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

// An iteration that stalled leaves no key out when it is resumed where its error says,
// one by one and batched, forwards and backwards. It may repeat those of the message that
// was being sent.
func TestStalledIterationIsResumed(t *testing.T) {
	r := newRig(t)
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("k%04d", i))
		r.put(keys[i], strings.Repeat("v", 900))
	}
	conn, ended := r.impatient()
	client := serverpb.NewDKVClient(conn)
	for _, req := range []*serverpb.IterateRequest{{}, {Batched: true}, {Reverse: true}, {Reverse: true, Batched: true}} {
		var got []string
		take := func(m *serverpb.IterateResponse) {
			if len(m.GetKey()) > 0 {
				got = append(got, string(m.GetKey()))
			}
			for _, p := range m.GetPairs() {
				got = append(got, string(p.GetKey()))
			}
		}
		req.KeyPrefix = []byte("k")
		s, err := client.Iterate(t.Context(), req)
		err = stall(t, s, err, ended, take)
		first := len(got)
		if req.StartKey, err = base64.StdEncoding.DecodeString(resumeOf(t, err)[kv.ResumeStartKey]); err != nil || len(req.StartKey) == 0 {
			t.Fatal(err)
		}
		at := slices.Index(got, string(req.StartKey)) // of what has come after all
		if at < 0 {
			at = first
		}
		got = got[:at]
		rest, err := r.Iterate(t.Context(), req)
		for err == nil {
			var m *serverpb.IterateResponse
			if m, err = rest.Recv(); err == nil {
				take(m)
			}
		}
		want := slices.Clone(keys)
		if req.Reverse {
			slices.Reverse(want)
		}
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) || first == len(want) {
			t.Errorf("%v: %d keys, resumed behind %d, then %d in all, and %v", req, first, at, len(got), err)
		}
	}
}

// A watch, and a slave's stream, is resumed with the first change that it has not
// got.
func TestStalledChangesAreResumed(t *testing.T) {
	r := newRig(t)
	last := kv.Index(0)
	for range 3000 {
		last = r.put("k", strings.Repeat("v", 900))
	}
	conn, ended := r.impatient()
	client := serverpb.NewDKVReplicationClient(conn)
	for name, open := range map[string]func() (grpc.ServerStreamingClient[serverpb.GetChangesResponse], error){
		"watch": func() (grpc.ServerStreamingClient[serverpb.GetChangesResponse], error) {
			return client.WatchChanges(t.Context(), &serverpb.WatchChangesRequest{FromChangeNumber: 1})
		},
		"stream": func() (grpc.ServerStreamingClient[serverpb.GetChangesResponse], error) {
			return client.StreamChanges(t.Context(), &serverpb.StreamChangesRequest{FromChangeNumber: 1})
		},
	} {
		next := uint64(1)
		s, err := open()
		err = stall(t, s, err, ended, func(m *serverpb.GetChangesResponse) {
			for _, c := range m.GetChanges() {
				if c.GetChangeNumber() != next {
					t.Fatalf("%s: change %d comes when %d is due", name, c.GetChangeNumber(), next)
				}
				next++
			}
		})
		if got := resumeOf(t, err)[kv.ResumeChange]; got != strconv.FormatUint(next, 10) || next > last {
			t.Errorf("%s: it goes on with change %s, and %d is due, of %d", name, got, next, last)
		}
	}
}
