package dkv

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// earlier is a server of the earlier system whose disk fails: it says so in responses.
type earlier struct {
	serverpb.UnimplementedDKVServer
}

var diskFails = &serverpb.Status{Code: -1, Message: "the disk fails"}

func (earlier) Put(context.Context, *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	return &serverpb.PutResponse{Status: diskFails}, nil
}

func (earlier) Get(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	return &serverpb.GetResponse{Status: diskFails}, nil
}

func (earlier) Iterate(_ *serverpb.IterateRequest, s grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	if err := s.Send(&serverpb.IterateResponse{Status: &serverpb.Status{}, Key: []byte("a")}); err != nil {
		return err
	}
	return s.Send(&serverpb.IterateResponse{Status: diskFails})
}

// A response that reports a failure is none that says that a key does not exist, or that there
// are no more keys.
func TestFailuresInResponses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	serverpb.RegisterDKVServer(s, earlier{})
	servertest.Serve(t, s, l)
	c := ready(t, l.Addr().String())
	ctx := testkit.Within(t, enough)

	_, put := c.Put(ctx, []byte("k"), nil)
	_, get := c.Get(ctx, []byte("k"))
	pairs, walk := 0, error(nil)
	for _, walk = range c.Iterate(ctx, Range{}) {
		pairs++
	}
	for i, err := range []error{put, get, walk} {
		var e *Error
		if !errors.As(err, &e) || e.OutcomeUnknown != (i == 0) || e.Address != l.Addr().String() || !strings.Contains(err.Error(), "the disk fails") {
			t.Errorf("%d: %v", i, err)
		}
	}
	if pairs != 2 { // one of them is the error
		t.Errorf("the iteration returned %d pairs", pairs)
	}
}
