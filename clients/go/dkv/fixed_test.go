package dkv

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Writes go to a slave at a fixed address once, and then to the masters at once.
func TestFixedSlavesArePassedBy(t *testing.T) {
	cl := newCluster(t, 4, 1)
	cl.lead(cl.nodes[3])
	var asked atomic.Int64
	for _, n := range cl.nodes[:3] {
		n.fail(func(_ context.Context, method string) error {
			if method != putMethod {
				return nil
			}
			asked.Add(1)
			return errSlave()
		}, nil)
	}
	c := ready(t, cl.addrs(), WithFixedAddresses())
	ctx := testkit.Within(t, enough)
	for range 10 {
		must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("slaves were asked %d times", n)
	}
	must[Value](t)(c.Get(ctx, []byte("k"), Sequential))
	// Roles change.
	cl.nodes[3].fail(func(context.Context, string) error { return errSlave() }, nil)
	cl.nodes[0].fail(nil, nil)
	cl.lead(cl.nodes[0])
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
}

// errSlave is the error of a slave that leaves a request to masters.
func errSlave() error {
	st, err := status.New(codes.FailedPrecondition, kv.ErrSlave.Error()).WithDetails(
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonNotApplied}, &errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonSlave})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// A call tries each of the fixed addresses, also if those that do not serve it are several: former masters
// that are slaves by now, members that are cut off from the leader, or nodes of the registry.
func TestEachFixedAddressIsTried(t *testing.T) {
	for name, answer := range map[string]error{
		"slaves":              errSlave(),
		"cut off":             explained(codes.Unavailable, kv.ReasonNotOwner, "no leader is known"),
		"nodes of a registry": explained(codes.Unimplemented, kv.ReasonNotApplied, "this node keeps no keys"),
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 4, 1)
			for _, n := range cl.nodes[:3] {
				n.fail(func(_ context.Context, method string) error {
					if method == serverpb.DKVNode_GetNodeStatus_FullMethodName {
						return nil
					}
					return answer
				}, nil)
			}
			cl.lead(cl.nodes[3])
			c := ready(t, cl.addrs(), WithFixedAddresses())
			ctx := testkit.Within(t, enough)
			must[uint64](t)(c.Put(ctx, []byte("k"), nil))
			must[Value](t)(c.Get(ctx, []byte("k")))
			must[Value](t)(c.Get(ctx, []byte("k"), Sequential))
			for _, err := range c.Iterate(ctx, Range{}) {
				if err != nil {
					t.Error("iterate:", err)
				}
			}
			cursor := must[Cursor](t)(c.Position(ctx))
			must[uint64](t)(c.Put(ctx, []byte("k2"), nil))
			watch(t, ctx, c, "", cursor).want("k2")
		})
	}
}
