package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/ctl/progress"
	"github.com/dkvdb/dkv/internal/ctl/survey"
	"github.com/dkvdb/dkv/internal/sleep"
)

// reportJoining shows, until stop is called, how far the node at a URL has come in joining
// the cluster.
func (s *session) reportJoining(ctx context.Context, url string) (stop func()) {
	one := s.to(s.Addrs...)
	one.Timeout = min(s.Timeout, options.DefaultTimeout)
	end := s.report(ctx, func(ctx context.Context) progress.State { return one.joining(ctx, url) })
	return func() { end(); one.Close() }
}

// joining returns how far the node at a URL has come; nothing if the cluster does not answer.
func (s *session) joining(ctx context.Context, url string) progress.State {
	list, err := s.ListNodes(ctx)
	if err != nil {
		return progress.State{}
	}
	for _, n := range nodes.SortedMembers(list) {
		if strings.TrimSuffix(n.GetNodeUrl(), "/") != strings.TrimSuffix(url, "/") {
			continue
		}
		if !n.GetNonVoting() {
			return progress.State{Text: fmt.Sprintf("%s is member %d and votes", url, n.GetNodeId())}
		}
		far := s.catchingUp(ctx, n.GetAddress())
		far.Text = fmt.Sprintf("%s is member %d, %s: %s", url, n.GetNodeId(), survey.NoVote, far.Text)
		return far
	}
	return progress.State{Text: url + " is not a member yet"}
}

// catchingUp returns how far behind the node at an address says it is.
func (s *session) catchingUp(ctx context.Context, addr string) progress.State {
	if addr == "" || s.MayAsk(addr) != nil {
		return progress.State{Text: "it is catching up"}
	}
	one := s.to(addr)
	defer one.Close()
	node, err := one.NodeStatus(ctx)
	if err != nil {
		return progress.State{Text: "it does not answer at " + addr}
	}
	var applied, behind, lag, arrived, size uint64
	for _, v := range node.GetVBuckets() {
		arrived += v.GetSnapshotBytes()
		size += v.GetSnapshotSize()
		applied += v.GetAppliedIndex()
		behind += v.GetLagChanges()
		lag = max(lag, v.GetLagChanges())
	}
	if size > 0 {
		return progress.State{Text: fmt.Sprintf("it receives a snapshot, %s of about %s", output.Mebibytes(arrived), output.Mebibytes(size)), Done: arrived, Total: max(arrived, size), Unit: "B"}
	}
	return progress.State{Text: fmt.Sprintf("it has applied %d, %d behind", applied, lag), Done: applied, Total: applied + behind}
}

// pause waits for d. If ctx ends first, it returns its error.
func pause(ctx context.Context, d time.Duration) error {
	if !sleep.For(ctx, d) {
		return ctx.Err()
	}
	return nil
}
