package ctl

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
)

// runClaim gives the record of the database in the registry to the masters of -a.
func runClaim(ctx context.Context, s *session, _ []string) error {
	var resp *serverpb.ClaimRecordResponse
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		resp, err = serverpb.NewDKVNodeClient(conn).ClaimRecord(ctx, &emptypb.Empty{})
		return err
	})
	if err != nil {
		return err
	}
	return s.printText("claimed", resp.GetText(), 0)
}
