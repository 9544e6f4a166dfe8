package ctl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/kv"
)

// noVote marks a member that does not count for a majority.
const noVote = "no vote"

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

// listNodes asks for the members of the cluster. The list of a node that was removed counts only
// if no other address has one; its status then says so.
func (s *session) listNodes(ctx context.Context) (*serverpb.ListNodesResponse, error) {
	var res, former *serverpb.ListNodesResponse
	err := s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = admin.ListNodes(ctx, conn); err == nil && res.GetStatus().GetMessage() != "" {
			former, err = res, nodes.Removed(res.GetStatus().GetMessage())
		}
		return err
	})
	if err != nil && former != nil {
		return former, nil
	}
	return res, err
}

// hasNoMembers reports whether an error of listNodes means that the node belongs to no
// Raft cluster, as opposed to members that could not be listed.
func hasNoMembers(err error) bool {
	var re *nodes.RequestError
	return errors.As(err, &re) && (re.Code == codes.Unimplemented || re.Code == codes.FailedPrecondition)
}

// sortedMembers returns the members of a cluster in the order of their ids.
func sortedMembers(res *serverpb.ListNodesResponse) []*modelspb.NodeInfo {
	var nodes []*modelspb.NodeInfo
	for _, id := range slices.Sorted(maps.Keys(res.GetNodes())) {
		nodes = append(nodes, res.GetNodes()[id])
	}
	return nodes
}

func runListNodes(ctx context.Context, s *session, _ []string) error {
	res, err := s.listNodes(ctx)
	if err != nil {
		return err
	}
	if said := res.GetStatus().GetMessage(); said != "" {
		fmt.Fprintln(s.stderr, "warning:", said)
	}
	members := sortedMembers(res)
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
			cells = append(cells, orDash(n.GetAddress()))
		}
		if names {
			cells = append(cells, orDash(n.GetNodeName()))
		}
		if n.GetNonVoting() {
			cells = append(cells, noVote)
		}
		if verbose && n.GetTiming() != "" {
			cells = append(cells, "timing="+timingName(n.GetTiming()))
		}
		return cells
	}
}
