package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/progress"
	"github.com/dkvdb/dkv/internal/ctl/verify"
	"github.com/dkvdb/dkv/internal/task"
)

func runVerify(ctx context.Context, s *session, _ []string) error {
	if s.Given["timeout"] { // each request has that, too
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.Timeout, errLateVerify)
		defer cancel()
	}
	names, err := s.vBucketNames(ctx)
	if err != nil {
		return err
	}
	addrs, err := s.replicas(ctx)
	if err != nil {
		return err
	}
	v := verify.New(s.Client, addrs)
	defer v.Close()
	var bad []string
	for i, name := range names {
		stop := s.reportVerify(ctx, addrs, name, i, len(names))
		found, err := v.Compare(ctx, name)
		stop()
		switch {
		case err != nil && errors.Is(context.Cause(ctx), errLateVerify):
			return fmt.Errorf("%w: %s, after %d of %d vBuckets%s; the nodes stop hashing, and nothing was changed; -timeout allows more time, -vBucket NAME compares one vBucket alone",
				errLateVerify, s.Timeout, i, len(names), foundBad(bad))
		case err != nil && ctx.Err() != nil:
			return errInterruptedVerify
		}
		if err != nil {
			return explainVerify(err, s.Addrs, addrs)
		}
		if err := found.Print(s.out); err != nil {
			return err
		}
		if !found.Equal() {
			bad = append(bad, fmt.Sprintf("vBucket %s: %s", name, found.Sentence()))
		}
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}

// foundBad is what a comparison has found before it was given up.
func foundBad(bad []string) string {
	if len(bad) == 0 {
		return ""
	}
	return " (" + strings.Join(bad, "; ") + ")"
}

var errLateVerify = errors.New("not all was compared within -timeout")

var errInterruptedVerify = errors.New("interrupted: the nodes stop hashing, and nothing was changed; -vBucket NAME compares one vBucket alone")

// reportVerify shows how far the nodes at addresses are with a vBucket, the one after done of all.
func (s *session) reportVerify(ctx context.Context, addrs []string, vBucket string, done, all int) (stop func()) {
	asked := s.lookers(addrs)
	text := fmt.Sprintf("vBucket %d of %d is being compared on %d nodes", done+1, all, len(addrs))
	end := s.report(ctx, func(ctx context.Context) progress.State {
		s := progress.State{Text: text, Timed: true, Unit: " " + task.Keys}
		for _, one := range asked {
			if t := one.taskNow(ctx, task.Verify, vBucket); t != nil {
				s.Done, s.Total = s.Done+t.GetDone(), s.Total+t.GetTotal()
			}
		}
		return s
	})
	return func() { end(); asked.close() }
}

// explainVerify adds how to compare without the members that -a does not name.
func explainVerify(err error, named, asked []string) error {
	if len(named) == len(asked) {
		return err
	}
	return fmt.Errorf("not all %d members and slaves can be compared: %w; several addresses in -a compare those alone", len(asked), err)
}

// replicas returns the addresses of the nodes to compare: those of -a if it names
// several, otherwise all members and slaves of the cluster that its node is of or follows.
func (s *session) replicas(ctx context.Context) ([]string, error) {
	if len(s.Addrs) > 1 {
		return s.Addrs, nil
	}
	node, err := s.NodeStatus(ctx)
	if err != nil {
		return nil, err
	}
	if node.GetRole() == "slave" {
		return s.replicasBesides(ctx, node)
	}
	return s.membersAndSlaves(ctx, node)
}

// membersAndSlaves returns what the node of -a lists.
func (s *session) membersAndSlaves(ctx context.Context, node *serverpb.NodeStatusResponse) ([]string, error) {
	members, err := s.memberAddresses(ctx, node)
	if err != nil {
		return nil, err
	}
	slaves, err := s.slaveAddresses(ctx)
	return append(members, slaves...), err
}

// replicasBesides returns the slave of -a, and what its leader lists: its own list of others may
// be as old as its snapshot.
func (s *session) replicasBesides(ctx context.Context, slave *serverpb.NodeStatusResponse) ([]string, error) {
	const instead = "name a master, or several nodes to compare, by -a"
	i := slices.IndexFunc(slave.GetVBuckets(), func(v *serverpb.VBucketStatus) bool { return v.GetLeader() != "" })
	if i < 0 {
		return nil, fmt.Errorf("%s is a slave that knows no leader now: %s", s.Addrs[0], instead)
	}
	at := slave.GetVBuckets()[i].GetLeader()
	if err := s.MayAsk(at); err != nil {
		return nil, err
	}
	leader := s.to(at)
	defer leader.Close()
	node, err := leader.NodeStatus(ctx)
	if err == nil && node.GetRole() == "slave" {
		err = errors.New("it is a slave too")
	}
	var listed []string
	if err == nil {
		listed, err = leader.membersAndSlaves(ctx, node)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is a slave, and the nodes of its leader %s are not known: %w; %s", s.Addrs[0], at, err, instead)
	}
	addrs := slices.Clone(s.Addrs)
	for _, addr := range listed {
		if addr != s.Addrs[0] && addr != slave.GetAddress() {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// slaveAddresses returns the slaves that the node of -a lists.
func (s *session) slaveAddresses(ctx context.Context) (addrs []string, _ error) {
	err := s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		list, err := admin.Replicas(ctx, conn, "")
		addrs = nil
		for _, r := range list {
			addrs = append(addrs, net.JoinHostPort(r.GetHostname(), strconv.Itoa(int(r.GetPort()))))
		}
		return err
	})
	if nodes.HasNoMembers(err) {
		return nil, nil // an older node, or one of the registry
	}
	if err != nil {
		return nil, fmt.Errorf("the slaves are not known: %w", err)
	}
	for _, addr := range addrs {
		if err := s.MayAsk(addr); err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

// memberAddresses returns those of the members of its node's cluster, with the node of
// -a first.
func (s *session) memberAddresses(ctx context.Context, node *serverpb.NodeStatusResponse) ([]string, error) {
	list, err := s.ListNodes(ctx)
	if nodes.HasNoMembers(err) && node.GetRole() != "master" {
		return s.Addrs, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the members of the cluster are not known: %w", err)
	}
	addrs := slices.Clone(s.Addrs)
	for _, m := range nodes.SortedMembers(list) {
		if strconv.FormatUint(m.GetNodeId(), 10) == node.GetNodeId() {
			continue
		}
		if m.GetAddress() == "" {
			return nil, fmt.Errorf("the address of member %d (%s) is not known: name the nodes to compare by -a", m.GetNodeId(), m.GetNodeUrl())
		}
		if err := s.MayAsk(m.GetAddress()); err != nil {
			return nil, err
		}
		addrs = append(addrs, m.GetAddress())
	}
	return addrs, nil
}

// vBucketNames returns the vBuckets to compare: the one that -vBucket names, or all.
func (s *session) vBucketNames(ctx context.Context) ([]string, error) {
	if s.VBucket != "" {
		return []string{s.VBucket}, nil
	}
	node, err := s.NodeStatus(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, v := range node.GetVBuckets() {
		names = append(names, v.GetVBucket())
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("node %s holds no vBucket", node.GetNodeName())
	}
	return names, nil
}
