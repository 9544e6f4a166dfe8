package ctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/timing"
)

// adminCall is a request of package admin that returns only an error.
type adminCall func(context.Context, grpc.ClientConnInterface) error

// change sends a request that changes something.
func (s *session) change(ctx context.Context, request adminCall) error {
	return s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) error { return request(ctx, conn) })
}

// changeOK is change, and prints OK if it succeeds.
func (s *session) changeOK(ctx context.Context, request adminCall) error {
	if err := s.change(ctx, request); err != nil {
		return err
	}
	return s.out.OK(0)
}

// changeShown is changeOK, and shows how far the node is with it.
func (s *session) changeShown(ctx context.Context, w work, request adminCall) error {
	stop := s.reportWork(ctx, w)
	err := s.change(ctx, request)
	stop()
	if err != nil {
		return w.ended(ctx, err)
	}
	return s.out.OK(0)
}

// runBackup asks the nodes whose state is old after all others: a master that a promotion has
// replaced makes backups too, of what it had before.
func runBackup(ctx context.Context, s *session, args []string) error {
	sorted := s.to(s.newestFirst(ctx)...)
	defer sorted.Close()
	var said string
	err := sorted.changeShown(ctx, backupWork(args[0]), func(ctx context.Context, conn grpc.ClientConnInterface) error {
		res, err := serverpb.NewDKVBackupRestoreClient(conn).Backup(ctx, &serverpb.BackupRequest{BackupPath: args[0]})
		said = res.GetMessage()
		return admin.Check(res, err)
	})
	if err == nil && said != "" {
		fmt.Fprintln(s.stderr, output.OneLine("warning: "+said))
	}
	return err
}

// oldState is the age of a state from which a node warns of it in the answer to -backup.
const oldState = time.Minute

// newestFirst returns the addresses by the ages of their nodes' states, the newest first. States that
// are not old, and those of nodes that do not say, stay in order before all others.
func (s *session) newestFirst(ctx context.Context) []string {
	if len(s.Addrs) < 2 {
		return s.Addrs
	}
	ages := make(map[string]time.Duration)
	for i, age := range nodes.Each(s.Client, s.Addrs, func(one *nodes.Client, _ string) (age time.Duration) {
		one.Timeout = min(s.Timeout, options.DefaultTimeout)
		if res, err := one.NodeStatus(ctx); err == nil {
			for _, v := range res.GetVBuckets() {
				age = max(age, time.Duration(v.GetLagMillis())*time.Millisecond)
			}
		}
		return age
	}) {
		if age >= oldState {
			ages[s.Addrs[i]] = age
		}
	}
	return slices.SortedStableFunc(slices.Values(s.Addrs), func(a, b string) int { return cmp.Compare(ages[a], ages[b]) })
}

func runRestore(ctx context.Context, s *session, args []string) error {
	restore := admin.Restore
	if s.Force {
		restore = admin.RestoreForced
	}
	return s.changeShown(ctx, restoreWork(args[0]), func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return restore(ctx, conn, args[0])
	})
}

func runPauseWrites(ctx context.Context, s *session, _ []string) error {
	return s.changeOK(ctx, admin.PauseWrites)
}

func runResumeWrites(ctx context.Context, s *session, _ []string) error {
	return s.changeOK(ctx, admin.ResumeWrites)
}

func runResetClock(ctx context.Context, s *session, args []string) error {
	var to time.Time
	if len(args) > 0 {
		var err error
		if to, err = time.Parse(time.RFC3339, args[0]); err != nil {
			return options.Usagef("-resetClock: %q is no time such as 2006-01-02T15:04:05Z", args[0])
		}
	}
	return s.changeOK(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return admin.SetClock(ctx, conn, to)
	})
}

func runResync(ctx context.Context, s *session, _ []string) error {
	var orders []*serverpb.ResyncOrder
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if s.Cancel {
			orders, err = admin.CancelResync(ctx, conn, s.VBucket)
		} else {
			orders, err = admin.Resync(ctx, conn, s.VBucket, s.Force)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = output.WriteTable(s.out, orders, func(o *serverpb.ResyncOrder) []string {
		return []string{"vBucket " + o.GetVBucket() + ": " + o.GetWhat()}
	}, func(out *output.Object, o *serverpb.ResyncOrder) {
		out.Str("vbucket", o.GetVBucket())
		out.Str("what", o.GetWhat())
	})
	if err != nil {
		return err
	}
	return s.out.OK(0)
}

func runSetTiming(ctx context.Context, s *session, args []string) error {
	to, err := timing.Parse(args[0])
	if err != nil {
		return options.Usagef("-setTiming: %v", err)
	}
	return s.changeOK(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return admin.SetTiming(ctx, conn, to.Text())
	})
}

func runClusterInfo(ctx context.Context, s *session, args []string) error {
	var filter admin.Filter
	for i, field := range []*string{&filter.DC, &filter.Database, &filter.VBucket} {
		if i < len(args) {
			*field = args[i]
		}
	}
	var rows []*serverpb.RegionInfo
	err := s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		rows, err = admin.ClusterInfo(ctx, conn, filter)
		return err
	})
	if err != nil {
		return err
	}
	return output.WriteTable(s.out, rows, func(r *serverpb.RegionInfo) []string {
		return []string{r.GetDcID(), r.GetDatabase(), r.GetVBucket(), r.GetNodeAddress(), r.GetStatus().String(),
			"master=" + output.OrDash(r.GetMasterHost()), "http=" + output.OrDash(r.GetHttpAddress()), "nexus=" + output.OrDash(r.GetNexusClusterUrl())}
	}, func(o *output.Object, r *serverpb.RegionInfo) {
		o.Str("dc_id", r.GetDcID())
		o.Str("database", r.GetDatabase())
		o.Str("vbucket", r.GetVBucket())
		o.Str("node_address", r.GetNodeAddress())
		o.Str("status", r.GetStatus().String())
		o.Str("master_host", r.GetMasterHost())
		o.Str("http_address", r.GetHttpAddress())
		o.Str("nexus_cluster_url", r.GetNexusClusterUrl())
	})
}

func runReleaseDatabase(ctx context.Context, s *session, args []string) error {
	return s.changeOK(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return admin.ReleaseDatabase(ctx, conn, args[0])
	})
}
