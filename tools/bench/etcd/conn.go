// Package etcd lets the load generator of DKV drive etcd: a connection that takes DKV's
// requests, and sends them as requests of etcd's key-value service. Both systems are then
// measured by the same code with the same costs on the client's side.
//
// It contains the few messages of etcd's API v3 that a measurement needs, instead of
// etcd's client, which would bring a large tree of modules with it.
package etcd

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

// The methods of etcd that are called.
const (
	methodPut    = "/etcdserverpb.KV/Put"
	methodRange  = "/etcdserverpb.KV/Range"
	methodTxn    = "/etcdserverpb.KV/Txn"
	methodStatus = "/etcdserverpb.Maintenance/Status"
)

// maxTxnOps is how many operations etcd accepts in one transaction by default.
const maxTxnOps = 128

// Conn is a connection to an etcd node. It serves Put, Get and MultiPut of DKV; a
// MultiPut is sent as transactions, and is not atomic.
type Conn struct {
	grpc.ClientConnInterface
}

// Invoke sends a request of DKV to etcd.
func (c Conn) Invoke(ctx context.Context, method string, req, res any, opts ...grpc.CallOption) error {
	switch req := req.(type) {
	case *serverpb.PutRequest:
		var out putResponse
		err := c.call(ctx, methodPut, &putRequest{req}, &out, opts)
		r := res.(*serverpb.PutResponse)
		r.Status, r.Index = nil, out.header.revision
		return err
	case *serverpb.GetRequest:
		r := res.(*serverpb.GetResponse)
		out := rangeResponse{value: r.Value[:0]}
		err := c.call(ctx, methodRange, &rangeRequest{req}, &out, opts)
		r.Status, r.Value, r.Found, r.Index = nil, out.value, out.found, out.header.revision
		return err
	case *serverpb.MultiPutRequest:
		for puts := req.GetPutRequest(); len(puts) > 0; {
			n := min(len(puts), maxTxnOps)
			if err := c.call(ctx, methodTxn, &txnRequest{puts[:n]}, &putResponse{}, opts); err != nil {
				return err
			}
			puts = puts[n:]
		}
		return nil
	default:
		return status.Errorf(codes.Unimplemented, "etcd has no call for %s", method)
	}
}

func (c Conn) call(ctx context.Context, method string, req, res any, opts []grpc.CallOption) error {
	return c.ClientConnInterface.Invoke(ctx, method, req, res, append(opts[:len(opts):len(opts)], useCodec)...)
}

// Status is what an etcd node says of itself.
type Status struct {
	Version string
	// Leads reports whether the node is the leader; there is none if Leader is 0.
	Leads  bool
	Leader uint64
}

// GetStatus asks the node for its status.
func (c Conn) GetStatus(ctx context.Context) (Status, error) {
	var out statusResponse
	if err := c.call(ctx, methodStatus, statusRequest{}, &out, nil); err != nil {
		return Status{}, fmt.Errorf("cannot ask etcd for its status: %w", err)
	}
	leads := out.leader != 0 && out.leader == out.header.member
	return Status{Version: out.version, Leads: leads, Leader: out.leader}, nil
}
