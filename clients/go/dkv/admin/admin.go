// Package admin administers nodes, clusters and registries of DKV. It wraps the
// administrative gRPC services in plain calls:
//
//	c, err := dkv.Open(ctx, "10.0.0.1:8080")
//	members, err := admin.ListNodes(ctx, c.Conn(""))
//	err = admin.PauseWrites(ctx, c.Conn("10.0.0.2:8080"))
//
// The connection says which node is asked. It may be one of package dkv, whose
// errors are then *dkv.Error, or a *grpc.ClientConn, whose errors are gRPC
// statuses. Requests about a cluster may be sent to any of its members.
//
// No call is repeated by itself once it may have had an effect: if the outcome is
// unknown, check the state before trying again.
package admin

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Check returns the error of a call whose response contains a status. err is the error
// of the call itself, which is how servers report failures. Very old servers report
// them only in the response; Check returns such a one as a gRPC status of code Unknown.
func Check(st *serverpb.Status, err error) error {
	if err == nil && st.GetCode() != 0 {
		return status.Error(codes.Unknown, st.GetMessage())
	}
	return err
}
