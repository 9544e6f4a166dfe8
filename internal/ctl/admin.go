package ctl

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
)

// statusCall is a request that answers with nothing but a status.
func (s *session) statusCall(ctx context.Context, request func(context.Context, *grpc.ClientConn) (*serverpb.Status, error)) error {
	err := s.call(ctx, mutates, func(ctx context.Context, conn *grpc.ClientConn) error {
		st, err := request(ctx, conn)
		if err != nil {
			return err
		}
		return checkStatus(st)
	})
	if err != nil {
		return err
	}
	return s.out.ok(0)
}

func runBackup(ctx context.Context, s *session, args []string) error {
	return s.statusCall(ctx, func(ctx context.Context, conn *grpc.ClientConn) (*serverpb.Status, error) {
		return serverpb.NewDKVBackupRestoreClient(conn).Backup(ctx, &serverpb.BackupRequest{BackupPath: args[0]})
	})
}

func runRestore(ctx context.Context, s *session, args []string) error {
	return s.statusCall(ctx, func(ctx context.Context, conn *grpc.ClientConn) (*serverpb.Status, error) {
		return serverpb.NewDKVBackupRestoreClient(conn).Restore(ctx, &serverpb.RestoreRequest{RestorePath: args[0]})
	})
}

func runPauseWrites(ctx context.Context, s *session, _ []string) error {
	return s.statusCall(ctx, func(ctx context.Context, conn *grpc.ClientConn) (*serverpb.Status, error) {
		return serverpb.NewDKVNodeClient(conn).PauseWrites(ctx, &emptypb.Empty{})
	})
}

func runResumeWrites(ctx context.Context, s *session, _ []string) error {
	return s.statusCall(ctx, func(ctx context.Context, conn *grpc.ClientConn) (*serverpb.Status, error) {
		return serverpb.NewDKVNodeClient(conn).ResumeWrites(ctx, &emptypb.Empty{})
	})
}

func runClusterInfo(ctx context.Context, s *session, args []string) error {
	req := &serverpb.GetClusterInfoRequest{}
	for i, field := range []**string{&req.DcID, &req.Database, &req.VBucket} {
		if i < len(args) && args[i] != "" {
			*field = &args[i]
		}
	}
	var res *serverpb.GetClusterInfoResponse
	err := s.call(ctx, reads, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		res, err = serverpb.NewDKVDiscoveryClient(conn).GetClusterInfo(ctx, req)
		return err
	})
	if err != nil {
		return err
	}
	return writeTable(s.out, res.GetRegionInfos(), func(r *serverpb.RegionInfo) []string {
		return []string{r.GetDcID(), r.GetDatabase(), r.GetVBucket(), r.GetNodeAddress(), r.GetStatus().String(),
			"master=" + orDash(r.GetMasterHost()), "http=" + orDash(r.GetHttpAddress()), "nexus=" + orDash(r.GetNexusClusterUrl())}
	}, func(o *object, r *serverpb.RegionInfo) {
		o.str("dcID", r.GetDcID())
		o.str("database", r.GetDatabase())
		o.str("vBucket", r.GetVBucket())
		o.str("nodeAddress", r.GetNodeAddress())
		o.str("status", r.GetStatus().String())
		o.str("masterHost", r.GetMasterHost())
		o.str("httpAddress", r.GetHttpAddress())
		o.str("nexusClusterUrl", r.GetNexusClusterUrl())
	})
}

// unsupported is a command that later versions will serve.
func unsupported(name string) func(context.Context, *session, []string) error {
	return func(context.Context, *session, []string) error {
		return fmt.Errorf("not supported by this version: -%s needs servers that replicate", name)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
