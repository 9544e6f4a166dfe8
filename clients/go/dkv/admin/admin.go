// Package admin operates nodes, clusters and registries of DKV. It wraps the
// services for operators in plain calls:
//
//	c, err := dkv.Open(ctx, "10.0.0.1:8080")
//	members, err := admin.ListNodes(ctx, c.Conn(""))
//	err = admin.PauseWrites(ctx, c.Conn("10.0.0.2:8080"))
//
// The connection says which node is asked. It may be one of package dkv, whose
// errors are then *dkv.Error, or a *grpc.ClientConn, whose errors are gRPC
// statuses. Where a request is about a cluster any of its members may be asked.
//
// None of the calls is repeated by itself once it may have had an effect: where the
// outcome is unknown the state is to be looked at.
package admin

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Check is the error of a call that answered with a status inside its response; err
// is the call's own. Servers answer with an error of the call; very old ones may
// only say inside what was wrong, which then is a gRPC status of code Unknown.
func Check(st *serverpb.Status, err error) error {
	if err == nil && st.GetCode() != 0 {
		return status.Error(codes.Unknown, st.GetMessage())
	}
	return err
}
