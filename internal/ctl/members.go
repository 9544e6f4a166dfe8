package ctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/ctl/survey"
	"github.com/dkvdb/dkv/internal/kv"
)

// runAddNode returns when the node has caught up in every vBucket and, without
// -nonVoting, has a vote.
func runAddNode(ctx context.Context, s *session, args []string) error {
	stop := s.reportJoining(ctx, args[0])
	err := s.change(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return admin.AddNode(ctx, conn, args[0], s.NonVoting)
	})
	stop()
	if ctx.Err() != nil && err != nil {
		return errors.New("interrupted: the node goes on to catch up, without a vote; -listNodes shows how far it is, and the same -addNode continues")
	}
	var re *nodes.RequestError
	if errors.As(err, &re) && re.Outcome == kv.Unknown {
		return fmt.Errorf("%w; -listNodes shows how far it is, and the same -addNode continues", err)
	}
	if err != nil {
		return err
	}
	return s.out.OK(0)
}

func runRemoveNode(ctx context.Context, s *session, args []string) error {
	return s.changeShown(ctx, removeWork(args[0]), func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return admin.RemoveNode(ctx, conn, args[0], s.Force)
	})
}

func runTransferLeader(ctx context.Context, s *session, args []string) error {
	url := ""
	if len(args) == 1 {
		url = args[0]
	}
	return s.changeShown(ctx, leadersWork(url), func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return admin.TransferLeader(ctx, conn, url, s.VBucket)
	})
}

func runStepDown(ctx context.Context, s *session, _ []string) error {
	return s.changeShown(ctx, leadersWork(""), admin.StepDown)
}

func runSnapshot(ctx context.Context, s *session, _ []string) error {
	return s.changeShown(ctx, snapshotWork(s.VBucket), func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return admin.Snapshot(ctx, conn, s.VBucket)
	})
}

func runListNodes(ctx context.Context, s *session, _ []string) error {
	res, err := s.ListNodes(ctx)
	if err != nil {
		return err
	}
	if said := res.GetStatus().GetMessage(); said != "" {
		fmt.Fprintln(s.stderr, "warning:", said)
	}
	members := nodes.SortedMembers(res)
	return output.WriteTable(s.out, members, memberColumns(members, s.Verbose), func(o *output.Object, n *modelspb.NodeInfo) {
		o.Uint("id", n.GetNodeId())
		o.Str("url", n.GetNodeUrl())
		o.Str("status", n.GetStatus().String())
		o.StrIfAny("address", n.GetAddress())
		o.StrIfAny("http_address", n.GetHttpAddress())
		o.StrIfAny("node_name", n.GetNodeName())
		o.StrIfAny("dc_id", n.GetDcID())
		if n.GetNonVoting() {
			o.Bool("non_voting", true)
		}
		o.StrIfAny("timing", n.GetTiming())
	})
}

// memberColumns returns what makes the rows of a table. A column that is empty for all
// members is left out; a single empty cell is a dash.
func memberColumns(members []*modelspb.NodeInfo, verbose bool) func(*modelspb.NodeInfo) []string {
	addresses := slices.ContainsFunc(members, func(n *modelspb.NodeInfo) bool { return n.GetAddress() != "" })
	names := slices.ContainsFunc(members, func(n *modelspb.NodeInfo) bool { return n.GetNodeName() != "" })
	return func(n *modelspb.NodeInfo) []string {
		cells := []string{strconv.FormatUint(n.GetNodeId(), 10), n.GetNodeUrl(), n.GetStatus().String()}
		if addresses || names {
			cells = append(cells, output.OrDash(n.GetAddress()))
		}
		if names {
			cells = append(cells, output.OrDash(n.GetNodeName()))
		}
		if n.GetNonVoting() {
			cells = append(cells, survey.NoVote)
		}
		if verbose && n.GetTiming() != "" {
			cells = append(cells, "timing="+survey.TimingName(n.GetTiming()))
		}
		return cells
	}
}
