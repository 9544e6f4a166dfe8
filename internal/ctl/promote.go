package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// runPromote prints each step of a promotion, and waits until the node serves mutations.
func runPromote(ctx context.Context, s *session, _ []string) error {
	var last *serverpb.PromoteProgress
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		steps, err := serverpb.NewDKVNodeClient(conn).Promote(ctx, &serverpb.PromoteRequest{With: s.With, Planned: s.Planned, Force: s.Force, Abandon: s.Abandon})
		for err == nil {
			var p *serverpb.PromoteProgress
			if p, err = steps.Recv(); err == nil {
				last, err = p, s.printStep(p)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	if err != nil || s.Abandon || last == nil {
		return err
	}
	return s.awaitMaster(ctx, last.GetEra())
}

// printStep prints a step at once: the next one may take a while.
func (s *session) printStep(p *serverpb.PromoteProgress) error {
	err := s.printText(p.GetStep(), p.GetText(), p.GetEra())
	if err == nil {
		err = s.out.W.Flush()
	}
	return err
}

func (s *session) printText(step, text string, era uint64) error {
	if !s.out.JSON {
		return s.out.Line(step, ": ", text)
	}
	return s.out.Document(func(o *output.Object) {
		o.Str("step", step)
		o.Str("text", text)
		o.Uint("era", era)
	})
}

const (
	// masterPause is how long to wait before a node is asked again whether it serves.
	masterPause = 100 * time.Millisecond
	// acceptPatience is how long a master may take until it accepts mutations: it gets its lease of the
	// registry, and waits for a slave that could stand by, which may never come.
	acceptPatience = 3 * time.Second
)

// awaitMaster waits until the promoted node, which opens its data again, is a master, and a moment
// until it accepts mutations.
func (s *session) awaitMaster(ctx context.Context, era uint64) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	var last error
	var led time.Time
	done := ""
	for {
		res, err := s.NodeStatus(ctx)
		if err == nil && leads(res) {
			if led.IsZero() {
				led = time.Now()
			}
			why := rejection(res)
			done = s.doneText(res.GetAddress(), era, why)
			if why == "" || time.Since(led) > acceptPatience {
				return s.printText("done", done, era)
			}
		}
		if err != nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if done != "" {
				return s.printText("done", done, era)
			}
			return fmt.Errorf("the promotion is decided, but the node does not serve yet: %w; see dkvctl -status and its log", errors.Join(ctx.Err(), last))
		case <-time.After(masterPause):
		}
	}
}

// leads reports whether a node is a master that knows who leads every vBucket.
func leads(res *serverpb.NodeStatusResponse) bool {
	for _, v := range res.GetVBuckets() {
		if v.GetState() != "serving" || v.GetLeader() == "" && !v.GetIsLeader() {
			return false
		}
	}
	return len(res.GetVBuckets()) > 0 && res.GetRole() != "slave"
}

// rejection says why a master accepts no mutations of a vBucket that it leads; empty if it does.
func rejection(res *serverpb.NodeStatusResponse) string {
	for _, v := range res.GetVBuckets() {
		if v.GetIsLeader() && v.GetReason() != "" {
			return v.GetReason()
		}
	}
	return ""
}

// doneText says what a promotion has made of the nodes, and why they accept no mutations; empty if
// they do.
func (s *session) doneText(address string, era uint64, rejection string) string {
	who, is, accepts := address, "is the master", "accepts"
	if len(s.With) > 0 {
		who, is, accepts = strings.Join(append([]string{address}, s.With...), ", "), "are the masters", "accept"
	}
	if rejection != "" {
		return fmt.Sprintf("%s %s of era %d; at %s mutations are rejected at present: %s", who, is, era, address, rejection)
	}
	return fmt.Sprintf("%s %s of era %d and %s mutations", who, is, era, accepts)
}

func runRejoin(ctx context.Context, s *session, args []string) error {
	var resp *serverpb.RejoinResponse
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		resp, err = serverpb.NewDKVNodeClient(conn).Rejoin(ctx, &serverpb.RejoinRequest{Masters: args})
		return err
	})
	if err != nil {
		return err
	}
	return s.printText("ordered", resp.GetText(), 0)
}

func runDropAside(ctx context.Context, s *session, _ []string) error {
	var resp *serverpb.DropAsideResponse
	err := s.Call(ctx, nodes.Mutates, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		resp, err = serverpb.NewDKVNodeClient(conn).DropAside(ctx, &emptypb.Empty{})
		return err
	})
	if err != nil {
		return err
	}
	if !s.out.JSON {
		return s.out.Line(fmt.Sprintf("deleted %d folders, %d bytes", len(resp.GetFolders()), resp.GetBytes()))
	}
	return s.out.Document(func(o *output.Object) {
		o.Uint("folders", uint64(len(resp.GetFolders())))
		o.Uint("bytes", resp.GetBytes())
	})
}
