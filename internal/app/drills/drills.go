// Package drills serves the calls of dkvctl -drill on a node: they give it a fault.
package drills

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/faults"
	"github.com/dkvdb/dkv/internal/kv"
)

// tellEvery is how often the caller is told how a fault goes.
const tellEvery = time.Second

// Service is the DKVNode service with what drills need.
type Service struct {
	serverpb.DKVNodeServer
	// Name is how the node is called in errors.
	Name string
	// Faults is nil on a node that has not agreed to drills.
	Faults *faults.Faults
	// Others are the other members as this node saw them when it last asked them, and false
	// before it has done so for the first time.
	Others func() ([]cluster.Peer, bool)
	// Raft reports whether the node has a Raft log.
	Raft bool
	// Master returns the master that a slave follows; nil on other nodes.
	Master func() string
}

// GetNodeStatus implements DKVNode: it adds the fault of a drill.
func (s *Service) GetNodeStatus(ctx context.Context, e *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	out, err := s.DKVNodeServer.GetNodeStatus(ctx, e)
	if a := s.Faults.Now(); err == nil && a != nil {
		out.Fault = describe(a)
	}
	return out, err
}

func describe(a *faults.Active) string {
	return fmt.Sprintf("a drill: %s, for %s more at the most", a.Fault, max(0, a.Left()).Round(time.Second))
}

// InjectFault implements DKVNode.
func (s *Service) InjectFault(r *serverpb.InjectFaultRequest, stream grpc.ServerStreamingServer[serverpb.FaultState]) error {
	fault := faults.Fault{
		Kind: faults.Kind(r.GetKind()), For: millis(r.GetMillis()),
		Address: r.GetAddress(), Delay: millis(r.GetDelayMillis()),
	}
	if fault.Kind == faults.Unreachable && fault.Address == "" {
		fault.Address = s.master()
	}
	if p, is := peer.FromContext(stream.Context()); is {
		fault.Exempt = p.Addr.String()
	}
	if err := s.agree(fault); err != nil {
		return err
	}
	if r.GetCheck() {
		return stream.Send(&serverpb.FaultState{State: "agreed", Text: fault.String(), LeftMillis: r.GetMillis()})
	}
	a, err := s.Faults.Begin(fault)
	switch {
	case errors.Is(err, faults.ErrActive):
		return kv.Errorf(kv.Precondition, "%v; wait until it has ended (not applied)", err)
	case err != nil:
		return err
	}
	defer a.End()
	return watch(stream, a)
}

// master is the master that a slave follows; empty for none.
func (s *Service) master() string {
	if s.Master == nil {
		return ""
	}
	return s.Master()
}

// millis is a duration of a request; what is far too long stays so.
func millis(n uint64) time.Duration {
	return time.Duration(min(n, uint64(time.Hour/time.Millisecond))) * time.Millisecond
}

// agree returns why a fault is rejected.
func (s *Service) agree(fault faults.Fault) error {
	if s.Faults == nil {
		return kv.Errorf(kv.Precondition, "%s has not agreed to drills: start it with allow-drills: true (not applied)", s.Name)
	}
	if s.Master != nil && fault.Kind == faults.Unreachable && fault.Address == "" {
		return kv.Errorf(kv.Precondition, "%s follows no master at this moment (not applied)", s.Name)
	}
	if err := fault.Check(); err != nil {
		return kv.Errorf(kv.Invalid, "%v (not applied)", err)
	}
	if !s.Raft && (fault.Kind == faults.SlowDisk || fault.Kind == faults.Partition) {
		return kv.Errorf(kv.Precondition, "%s has no Raft log, and the fault %s concerns that (not applied)", s.Name, fault.Kind)
	}
	if fault.Kind == faults.Unreachable && s.Master == nil {
		return kv.Errorf(kv.Precondition, "%s is no slave, and the fault %s is for one (not applied)", s.Name, fault.Kind)
	}
	if s.Raft {
		return s.othersAreWhole()
	}
	return nil
}

// othersAreWhole returns an error unless all other members answer and have no fault: with
// a fault of this node as well, the majority might be lost.
func (s *Service) othersAreWhole() error {
	others, asked := s.Others()
	if !asked {
		return kv.Errorf(kv.Precondition, "%s has not asked the other members yet whether they are there: begin the drill again in a few seconds (not applied)", s.Name)
	}
	var missing []string
	for _, p := range others {
		if !p.Healthy {
			missing = append(missing, cmp.Or(p.Node, p.Name()))
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return kv.Errorf(kv.Precondition, "%s cannot be reached, and a fault of this node might take the majority: begin a drill when all members are there (not applied)", strings.Join(missing, ", "))
	}
	for _, p := range others {
		if fault := p.Status.GetFault(); fault != "" {
			return kv.Errorf(kv.Precondition, "%s has a fault (%s), and one of this node might take the majority: begin the drill when that is over (not applied)", cmp.Or(p.Node, p.Name()), fault)
		}
	}
	return nil
}

// watch tells the caller how a fault goes, until it has ended or the caller is gone.
func watch(stream grpc.ServerStreamingServer[serverpb.FaultState], a *faults.Active) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		left := max(0, a.Left())
		if err := stream.Send(&serverpb.FaultState{State: "active", Text: a.String(), LeftMillis: uint64(left.Milliseconds())}); err != nil {
			return err
		}
		select {
		case <-a.Ended():
			return stream.Send(&serverpb.FaultState{State: "ended", Text: a.String()})
		case <-stream.Context().Done():
			return context.Cause(stream.Context()) // the caller is gone, or the node stops
		case <-tick.C:
		}
	}
}
