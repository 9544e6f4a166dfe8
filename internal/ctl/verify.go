package ctl

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/progress"
	"github.com/dkvdb/dkv/internal/task"
)

// How often -verify asks again while nodes hash different indexes, and how long it
// waits before each try: longer from try to try, up to half a minute in total.
const (
	verifyTries    = 50
	verifyPause    = 50 * time.Millisecond
	maxVerifyPause = 800 * time.Millisecond
	// minVerifyTries are made however long each takes; the others only within
	// verifyPatience, since hashing a large database takes minutes.
	minVerifyTries = 3
	verifyPatience = 5 * time.Minute
)

func runVerify(ctx context.Context, s *session, _ []string) error {
	names, err := s.vBucketNames(ctx)
	if err != nil {
		return err
	}
	addrs, err := s.replicas(ctx)
	if err != nil {
		return err
	}
	v := newVerifier(s, addrs)
	defer v.close()
	var bad []string
	for i, name := range names {
		stop := v.report(ctx, name, i, len(names))
		found, err := v.verify(ctx, name)
		stop()
		if err != nil && ctx.Err() != nil {
			return errInterruptedVerify
		}
		if err != nil {
			return explainVerify(err, s.Addrs, addrs)
		}
		if err := s.printVerdict(found); err != nil {
			return err
		}
		if found.Verdict != equalContent {
			bad = append(bad, fmt.Sprintf("vBucket %s: %s", name, found.sentence()))
		}
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}

var errInterruptedVerify = errors.New("interrupted: the nodes stop hashing, and nothing was changed; -vBucket NAME compares one vBucket alone")

// report shows how far the nodes are with a vBucket, the one after done of all.
func (v *verifier) report(ctx context.Context, vBucket string, done, all int) (stop func()) {
	var addrs []string
	for _, node := range v.nodes {
		addrs = append(addrs, node.Addrs...)
	}
	asked := v.nodes[0].lookers(addrs)
	text := fmt.Sprintf("vBucket %d of %d is being compared on %d nodes", done+1, all, len(v.nodes))
	end := v.nodes[0].report(ctx, func(ctx context.Context) progress.State {
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

// verifier asks nodes for the hashes of their contents.
type verifier struct {
	nodes []*session // of one address each; their connections are kept
	tries int
	// wait waits before a try, counted from 1.
	wait func(ctx context.Context, try int) error
}

func newVerifier(s *session, addrs []string) *verifier {
	v := &verifier{tries: verifyTries, wait: waitToVerify}
	for _, addr := range addrs {
		v.nodes = append(v.nodes, s.to(addr))
	}
	return v
}

func (v *verifier) close() {
	for _, node := range v.nodes {
		node.Close()
	}
}

// waitToVerify waits for a random time, so that tries do not coincide with writes that
// come at intervals.
func waitToVerify(ctx context.Context, try int) error {
	d := min(verifyPause*time.Duration(try), maxVerifyPause)
	return pause(ctx, d/2+rand.N(d))
}

// verify asks all nodes until all of them have returned the hash of the same index.
// During writes each hashes another index; an earlier answer of one may match a later
// answer of another, so every answer is kept.
func (v *verifier) verify(ctx context.Context, vBucket string) (*verdict, error) {
	if err := v.connect(ctx); err != nil {
		return nil, err
	}
	seen := make([]map[uint64]content, len(v.nodes))
	for i := range seen {
		seen[i] = make(map[uint64]content)
	}
	began := time.Now()
	var last []content
	for try := range v.tries {
		if try >= minVerifyTries && time.Since(began) > verifyPatience {
			break
		}
		if try > 0 {
			if err := v.wait(ctx, try); err != nil {
				return nil, err
			}
		}
		var err error
		if last, err = v.contents(ctx, vBucket); err != nil {
			return nil, err
		}
		for i, c := range last {
			seen[i][c.Index] = c
		}
		if same := sameIndex(seen); same != nil {
			return judge(vBucket, same), nil
		}
	}
	return &verdict{VBucket: vBucket, Verdict: notComparable, Nodes: last, Behind: behind(seen, last)}, nil
}

// connect makes all connections first, so that afterwards all requests reach their
// nodes at about the same time and thus, most likely, at the same index.
func (v *verifier) connect(ctx context.Context) error {
	return v.each(func(_ int, node *session) error {
		ctx, cancel := context.WithTimeout(ctx, node.Timeout)
		defer cancel()
		_, err := node.Connect(ctx, node.Addrs[0])
		return err
	})
}

// contents asks every node once.
func (v *verifier) contents(ctx context.Context, vBucket string) ([]content, error) {
	contents := make([]content, len(v.nodes))
	err := v.each(func(i int, node *session) error {
		var res *serverpb.ContentHashResponse
		err := node.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
			res, err = admin.ContentHash(ctx, conn, vBucket)
			return err
		})
		contents[i] = content{VBucket: vBucket, Address: node.Addrs[0], Index: res.GetIndex(), Keys: res.GetKeys(),
			Hash: hex.EncodeToString(res.GetHash()), History: res.GetHistoryId()}
		return err
	})
	return contents, err
}

// each calls f for all nodes at the same time. It returns the first error in the order
// of the nodes.
func (v *verifier) each(f func(i int, node *session) error) error {
	errs := make([]error, len(v.nodes))
	var group sync.WaitGroup
	for i, node := range v.nodes {
		group.Go(func() { errs[i] = f(i, node) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
