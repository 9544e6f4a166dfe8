package ctl

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/sleep"
)

// reportsJoining reports whether -addNode prints its progress: if -progress asks for
// it, or by default if stderr is a terminal.
func (s *session) reportsJoining() bool {
	if s.Given["progress"] {
		return s.Options.Progress > 0
	}
	return !s.JSON && terminal(s.stderr) != nil
}

// reportJoining prints on stderr, until stop is called, how far the node at a URL has
// come in joining the cluster.
func (s *session) reportJoining(ctx context.Context, url string) (stop func()) {
	if !s.reportsJoining() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var reporting sync.WaitGroup
	reporting.Go(func() {
		one := s.to(s.Addrs...)
		defer one.Close()
		one.Timeout = min(s.Timeout, options.DefaultTimeout)
		said := ""
		for pause(ctx, s.Options.Progress) == nil {
			if text := one.joining(ctx, url); text != "" && text != said && ctx.Err() == nil {
				fmt.Fprintln(s.stderr, oneLine(text))
				said = text
			}
		}
	})
	return func() { cancel(); reporting.Wait() }
}

// joining returns how far the node at a URL has come; empty if the cluster does not
// answer.
func (s *session) joining(ctx context.Context, url string) string {
	list, err := s.listNodes(ctx)
	if err != nil {
		return ""
	}
	for _, n := range sortedMembers(list) {
		if strings.TrimSuffix(n.GetNodeUrl(), "/") != strings.TrimSuffix(url, "/") {
			continue
		}
		if !n.GetNonVoting() {
			return fmt.Sprintf("%s is member %d and votes", url, n.GetNodeId())
		}
		return fmt.Sprintf("%s is member %d, %s: %s", url, n.GetNodeId(), noVote, s.catchingUp(ctx, n.GetAddress()))
	}
	return url + " is not a member yet"
}

// catchingUp returns how far behind the node at an address says it is.
func (s *session) catchingUp(ctx context.Context, addr string) string {
	if addr == "" || s.MayAsk(addr) != nil {
		return "it is catching up"
	}
	one := s.to(addr)
	defer one.Close()
	node, err := one.getNodeStatus(ctx)
	if err != nil {
		return "it does not answer at " + addr
	}
	var applied, lag uint64
	for _, v := range node.GetVBuckets() {
		applied += v.GetAppliedIndex()
		lag = max(lag, v.GetLagChanges())
	}
	return fmt.Sprintf("it has applied %d, %d behind", applied, lag)
}

// pause waits for d. If ctx ends first, it returns its error.
func pause(ctx context.Context, d time.Duration) error {
	if !sleep.For(ctx, d) {
		return ctx.Err()
	}
	return nil
}
