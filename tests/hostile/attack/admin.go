package attack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
)

// Administrative calls that do what they are meant to, such as PauseWrites, Restore of an
// existing backup, or StepDown, are no attacks here: only authentication can decide who
// may make them.
var admin = []Attack{
	{"content-hashes", data, func(ctx context.Context, e *Enemy) {
		node := serverpb.NewDKVNodeClient(e.client(ctx))
		e.calls(ctx, 32, func(ctx context.Context, _ serverpb.DKVClient) error {
			_, err := node.GetContentHash(ctx, &serverpb.ContentHashRequest{})
			return err
		})
	}},
	{"node-statuses", every, func(ctx context.Context, e *Enemy) {
		node := serverpb.NewDKVNodeClient(e.client(ctx))
		cluster := serverpb.NewDKVClusterClient(e.client(ctx))
		e.calls(ctx, 64, func(ctx context.Context, _ serverpb.DKVClient) error {
			_, err := node.GetNodeStatus(ctx, &emptypb.Empty{})
			if err == nil && e.Kind == Masters {
				_, err = cluster.ListNodes(ctx, &emptypb.Empty{})
			}
			return err
		})
	}},
	{"odd-backup-paths", alone, func(ctx context.Context, e *Enemy) {
		backup := serverpb.NewDKVBackupRestoreClient(e.client(ctx))
		paths := []string{
			"", ".", "/", "..", "../..", "../../../../etc", "/etc/passwd", "a/../../b", "x\x00y", strings.Repeat("a/", 3000), strings.Repeat("z", 5000),
			"/proc/self/mem", "/dev/null", "backups/../../db",
		}
		e.calls(ctx, 8, func(ctx context.Context, _ serverpb.DKVClient) error {
			path := paths[rand.IntN(len(paths))]
			var err error
			if rand.IntN(2) == 0 {
				_, err = backup.Backup(ctx, &serverpb.BackupRequest{BackupPath: path})
			} else {
				_, err = backup.Restore(ctx, &serverpb.RestoreRequest{RestorePath: path})
			}
			return err
		})
	}},
	{"many-replicas", data, func(ctx context.Context, e *Enemy) {
		replication := serverpb.NewDKVReplicationClient(e.client(ctx))
		e.calls(ctx, 32, func(ctx context.Context, _ serverpb.DKVClient) error {
			name := string(junkName())
			if rand.IntN(10) == 0 {
				name = junkText(200 << 10)
			}
			_, err := replication.AddReplica(ctx, &serverpb.Replica{Zone: name, Hostname: name, Port: rand.Uint32()})
			return err
		})
	}},
	{"strange-members", []Kind{Masters}, func(ctx context.Context, e *Enemy) {
		members := peerpb.NewMembersClient(e.client(ctx))
		e.calls(ctx, 32, func(ctx context.Context, _ serverpb.DKVClient) error {
			_, err := members.Meet(ctx, &peerpb.MeetRequest{
				Deployment: rand.Uint64(), From: rand.Uint64N(4), To: rand.Uint64N(4), Past: &peerpb.Past{Uuid: junkText(100), Number: rand.Uint64()}, TakesPart: true,
			})
			return err
		})
	}},
	{"nodes-that-are-none", []Kind{Masters}, func(ctx context.Context, e *Enemy) {
		cluster := serverpb.NewDKVClusterClient(e.client(ctx))
		e.calls(ctx, 8, func(ctx context.Context, _ serverpb.DKVClient) error {
			_, err := cluster.AddNode(ctx, &serverpb.AddNodeRequest{NodeUrl: fmt.Sprintf("http://127.0.0.1:%d", 1+rand.IntN(9)), NonVoting: true})
			return err
		})
	}},
}
