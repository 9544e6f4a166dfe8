// Package systems runs what is measured: clusters of dkvsrv and of etcd, and the bare echo,
// as processes of their own on loopback addresses. They are stopped by their ids, and end
// with the process that started them.
package systems

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/bench"
	"github.com/dkvdb/dkv/internal/ctl/bench/procs"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/testkit/process"
	"github.com/dkvdb/dkv/tools/bench/table"
)

// Times of starting and stopping.
const (
	// healthyWithin is long: a node may have to replay its log.
	healthyWithin = 60 * time.Second
	pollEvery     = 20 * time.Millisecond
	callTimeout   = 2 * time.Second
	// windowSize is that of gRPC's buffers, as dkvctl has them.
	windowSize = 128 << 10
)

// connections is how many carry the load, as with dkvctl: at most 8, and no more than
// workers.
const connections = 8

// kind is what differs between the systems.
type kind interface {
	// args returns the command line of a node.
	args(n *Node, all []*Node) []string
	// wrap turns DKV's requests into those of the system.
	wrap(grpc.ClientConnInterface) grpc.ClientConnInterface
	// leads reports whether the node is the leader. An error means that it is not known.
	leads(ctx context.Context, n *Node) (bool, error)
}

// System is several nodes that serve one database, or one node.
type System struct {
	Name  table.System
	Nodes []*Node
	kind  kind
	// program is what every node runs.
	program string
}

// Node is one process of a system, and a connection to it.
type Node struct {
	Addr string
	// peer and http are further addresses that the process listens at, and dir the folder
	// of its data.
	peer, http, name, dir string
	conn                  *grpc.ClientConn
	client                serverpb.DKVClient
	process               *process.Process
}

// start runs a system of n nodes in dir, and waits until each of them serves writes.
func start(ctx context.Context, s *System, dir string, n int) (*System, error) {
	for i := range n {
		node := &Node{name: fmt.Sprintf("n%d", i+1)}
		node.dir = filepath.Join(dir, node.name)
		for _, addr := range []*string{&node.Addr, &node.peer, &node.http} {
			var err error
			if *addr, err = freeAddress(); err != nil {
				return nil, err
			}
		}
		conn, err := dial(node.Addr)
		if err != nil {
			return nil, err
		}
		node.conn, node.client = conn, serverpb.NewDKVClient(s.kind.wrap(conn))
		s.Nodes = append(s.Nodes, node)
	}
	for _, node := range s.Nodes {
		if err := s.run(node); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if err := s.AwaitHealthy(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func dial(addr string) (*grpc.ClientConn, error) {
	// A killed node is tried again at once, since that is what is measured.
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(windowSize), grpc.WithWriteBufferSize(windowSize), grpc.WithConnectParams(reconnect))
}

// run starts the process of a node.
func (s *System) run(n *Node) error {
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(n.config(), nil, 0o644); err != nil {
		return err
	}
	p, err := process.Start(process.Options{
		Program: s.program, Args: s.kind.args(n, s.Nodes), Env: process.Environ(), Log: n.dir + ".log",
	})
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", s.program, err)
	}
	n.process = p
	return nil
}

// AwaitHealthy waits until every node serves writes, of every vBucket.
func (s *System) AwaitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	for _, n := range s.Nodes {
		for key := 0; key < probes; {
			err := n.write(ctx, fmt.Sprintf("probe%02d", key), callTimeout)
			if err == nil {
				key++
				continue
			}
			sleep.For(ctx, pollEvery)
			if ctx.Err() != nil {
				return fmt.Errorf("%s at %s does not serve writes within %s: %w; its log ends with:\n%s", s.Name, n.Addr, healthyWithin, err, n.process.Tail(5))
			}
		}
	}
	_, err := s.Leader(ctx)
	return err
}

// probes is how many keys are written to find that all vBuckets are served: with 64 keys
// one of 8 vBuckets is missed once in five thousand times, and only until it is measured.
const probes = 64

// write puts a key at the node.
func (n *Node) write(ctx context.Context, key string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := n.client.Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: []byte("v")})
	return err
}

// Leader returns the node that leads (the first vBucket). It waits for an election.
func (s *System) Leader(ctx context.Context) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	for {
		var last error
		for _, n := range s.Nodes {
			leads, err := s.kind.leads(ctx, n)
			if leads {
				return n, nil
			}
			if err != nil {
				last = err
			}
		}
		sleep.For(ctx, pollEvery)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s has no leader: %w", s.Name, last)
		}
	}
}

// Processes returns those of all nodes.
func (s *System) Processes() (*procs.Set, error) { return procs.Find(s.PIDs()) }

// PIDs returns the ids of the processes of all nodes.
func (s *System) PIDs() []int {
	var pids []int
	for _, n := range s.Nodes {
		pids = append(pids, n.process.PID())
	}
	return pids
}

// Target connects to the leader, or to all nodes in turn, for a load with so many workers.
func (s *System) Target(ctx context.Context, leader bool, workers int) (bench.Target, func(), error) {
	nodes := s.Nodes
	if leader {
		n, err := s.Leader(ctx)
		if err != nil {
			return bench.Target{}, nil, err
		}
		nodes = []*Node{n}
	}
	t := bench.Target{Name: string(s.Name)}
	var conns []*grpc.ClientConn
	closeAll := func() {
		for _, c := range conns {
			_ = c.Close() // nothing is under way any more
		}
	}
	var err error
	if t.Processes, err = s.Processes(); err != nil {
		return t, nil, err
	}
	for i := range max(min(workers, connections), len(nodes)) {
		conn, err := dial(nodes[i%len(nodes)].Addr)
		if err != nil {
			closeAll()
			return t, nil, err
		}
		conns = append(conns, conn)
		t.Conns = append(t.Conns, s.kind.wrap(conn))
	}
	return t, closeAll, nil
}

// Close stops the processes and waits for their end. What they wrote is kept.
func (s *System) Close() error {
	var errs []error
	for _, n := range s.Nodes {
		if n.process != nil {
			errs = append(errs, n.process.Signal(syscall.SIGTERM))
		}
	}
	for _, n := range s.Nodes {
		if n.process == nil {
			continue
		}
		kill := time.AfterFunc(healthyWithin, func() { _ = n.process.Signal(syscall.SIGKILL) })
		n.process.Wait()
		kill.Stop()
		n.process = nil
		errs = append(errs, n.conn.Close())
	}
	return errors.Join(errs...)
}
