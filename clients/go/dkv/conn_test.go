package dkv

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestConn(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	for _, n := range cl.nodes {
		got, err := serverpb.NewDKVNodeClient(c.Conn(n.addr)).GetNodeStatus(ctx, &emptypb.Empty{})
		if err != nil || got.GetAddress() != n.addr {
			t.Errorf("%v, %v", got, err)
		}
	}
	// Without an address the leader is asked, also for streams.
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	req := &serverpb.GetRequest{Key: []byte("k"), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
	got, err := serverpb.NewDKVClient(c.Conn("")).Get(ctx, req)
	if err != nil || !got.GetFound() {
		t.Errorf("%v, %v", got, err)
	}
	if req.GetCluster() != 0 { // another goroutine may be sending it
		t.Error("the caller's request was changed")
	}
	for _, addr := range []string{"", cl.nodes[1].addr} {
		s, err := serverpb.NewDKVClient(c.Conn(addr)).Iterate(ctx, &serverpb.IterateRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := s.Recv(); err != nil || len(resp.GetPairs()) != 1 {
			t.Errorf("%v, %v", resp, err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	var e *Error
	if _, err := serverpb.NewDKVDiscoveryNodeClient(c.Conn(cl.nodes[0].addr)).GetStatus(ctx, &emptypb.Empty{}); !errors.As(err, &e) ||
		!errors.Is(err, ErrUnimplemented) || e.Address != cl.nodes[0].addr {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"", cl.nodes[1].addr} {
		_, unary := serverpb.NewDKVClient(c.Conn(addr)).Get(ctx, &serverpb.GetRequest{})
		_, stream := serverpb.NewDKVClient(c.Conn(addr)).Iterate(ctx, &serverpb.IterateRequest{})
		if !errors.Is(unary, ErrClosed) || !errors.Is(stream, ErrClosed) {
			t.Errorf("%v, %v", unary, stream)
		}
	}
}

// A call by Conn to a node that the client does not follow goes on when another node is dropped.
func TestConnOutlivesOtherNodes(t *testing.T) {
	cl, elsewhere := newCluster(t, 2, 1), newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	begun, end := make(chan struct{}), make(chan struct{})
	elsewhere.nodes[0].fail(func(context.Context, string) error { close(begun); <-end; return nil }, nil)
	done, ctx := make(chan error, 1), testkit.Within(t, enough)
	go func() {
		_, err := serverpb.NewDKVNodeClient(c.Conn(elsewhere.nodes[0].addr)).GetNodeStatus(ctx, &emptypb.Empty{})
		done <- err
	}()
	<-begun
	c.learner.mu.Lock()
	dropped := c.learner.probes[cl.nodes[1].addr]
	c.learner.drop(dropped)
	c.learner.mu.Unlock()
	close(end)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if c.mu.Lock(); c.nodes[cl.nodes[1].addr] == dropped.node {
		t.Error("the node that was dropped is still known")
	}
	c.mu.Unlock()
}

// A stream without a deadline waits for a node within the client's time limit, as a call does.
func TestConnWaitsForNoNodeForEver(t *testing.T) {
	c := open(t, testkit.Address(t), WithTimeout(100*time.Millisecond))
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(10*time.Second, cancel).Stop()
	_, err := serverpb.NewDKVClient(c.Conn("")).Iterate(ctx, &serverpb.IterateRequest{})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
