package hostile

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
	"github.com/dkvdb/dkv/tests/hostile/attack"
)

// field is a group of nodes of which some are attacked.
type field struct {
	t     testing.TB
	dir   string
	nodes []*node
	// target is what is attacked. Honest clients write to writes and read from reads.
	target   attack.Target
	writes   *node
	reads    []*node
	registry *node // if there is one
}

// node is a dkvsrv process.
type node struct {
	*process.Process
	name, log        string
	grpc, http, raft string
	conn             *grpc.ClientConn // the test's own
}

// The nodes' memory settings. They are small, so that a node which takes more is noticed.
const (
	inFlight    = 64 << 20
	blockCache  = 64 << 20
	writeBuffer = 16 << 20
)

// newField starts what a kind of target needs.
func newField(t testing.TB, kind attack.Kind) *field {
	t.Helper()
	f := &field{t: t, dir: t.TempDir()}
	t.Cleanup(f.close)
	switch kind {
	case attack.RocksDB:
		f.alone("rocksdb")
	case attack.Badger:
		f.alone("badger")
	case attack.Masters:
		f.cluster()
		f.aim(f.nodes...)
	case attack.Slave:
		f.cluster()
		f.reads = []*node{f.slave()}
		f.aim(f.reads...)
	case attack.Registry:
		f.registry = f.start("registry", "--role", "discovery")
		f.cluster()
		f.reads = []*node{f.slave()}
		f.aim(f.registry)
	}
	f.target.Kind = kind
	f.sow()
	return f
}

func (f *field) alone(engine string) {
	f.t.Helper()
	n := f.start("alone", "--db-engine", engine)
	f.writes, f.reads = n, []*node{n}
	f.aim(n)
}

// cluster starts three masters. Honest clients write to the leader and read from a
// follower, which forwards linearizable reads.
func (f *field) cluster() {
	f.t.Helper()
	raft, err := testkit.Addresses(3)
	if err != nil {
		f.t.Fatal(err)
	}
	urls := "http://" + strings.Join(raft, ",http://")
	var masters []*node
	for i, addr := range raft {
		n := f.launch(fmt.Sprintf("master%d", i+1), "--role", "master", "--nexus-node-url", "http://"+addr, "--nexus-cluster-url", urls)
		n.raft = addr
		masters = append(masters, n)
	}
	for _, n := range masters {
		f.await(n)
	}
	testkit.Eventually(f.t, "a master leads", func() bool {
		for i, n := range masters {
			if n.leads() {
				f.writes, f.reads = n, []*node{masters[(i+1)%3]}
				return true
			}
		}
		return false
	})
}

// slave starts a slave of the masters.
func (f *field) slave() *node {
	f.t.Helper()
	args := []string{"--role", "slave", "--repl-mode", "stream"}
	if f.registry == nil {
		args = append(args, "--repl-master-addr", f.writes.grpc)
	}
	return f.start("slave", args...)
}

// aim adds nodes to the target.
func (f *field) aim(nodes ...*node) {
	for _, n := range nodes {
		f.target.GRPC = append(f.target.GRPC, n.grpc)
		f.target.HTTP = append(f.target.HTTP, n.http)
		if n.raft != "" {
			f.target.Raft = append(f.target.Raft, n.raft)
		}
	}
}

func (f *field) start(name string, args ...string) *node {
	f.t.Helper()
	n := f.launch(name, args...)
	f.await(n)
	return n
}

// launch starts a node without waiting until it serves.
func (f *field) launch(name string, args ...string) *node {
	f.t.Helper()
	at, err := testkit.Addresses(2)
	if err != nil {
		f.t.Fatal(err)
	}
	n := &node{name: name, log: filepath.Join(f.dir, name+".log"), grpc: at[0], http: at[1]}
	flags := []string{
		"--node-name", name, "--db-folder", filepath.Join(f.dir, name), "--listen-addr", n.grpc, "--http-listen-addr", n.http,
		"--max-memory-in-flight", fmt.Sprint(inFlight), "--block-cache-size", fmt.Sprint(blockCache), "--write-buffer-size", fmt.Sprint(writeBuffer),
		"--changelog-max-bytes", "64MiB", "--stream-stall-timeout", "20s", "--pprof",
	}
	switch {
	case name == "alone" || name == "registry":
	case f.registry == nil:
		flags = append(flags, "--disable-discovery-client")
	default:
		flags = append(flags, "--discovery-service.client.discovery-service-addr", f.registry.grpc)
	}
	n.Process, err = process.Start(process.Options{
		Program: dkvsrv, Args: append(flags, args...), Log: n.log, Dir: f.dir,
		Env: append(process.Environ(), fmt.Sprintf("%s=%d", openFilesKey, openFiles)),
	})
	if err != nil {
		f.t.Fatalf("%s: %v", name, err)
	}
	f.nodes = append(f.nodes, n)
	return n
}

func (f *field) await(n *node) {
	f.t.Helper()
	if _, err := n.Await(); err != nil {
		f.t.Fatalf("%s: %v", n.name, err)
	}
	n.conn = f.connect(n.grpc)
}

// connect connects from this process's own address, which no attacker uses.
func (f *field) connect(addr string) *grpc.ClientConn {
	f.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dial))
	if err != nil {
		f.t.Fatal(err)
	}
	return conn
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.1")}}
	return d.DialContext(ctx, "tcp", addr)
}

func (n *node) leads() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := serverpb.NewDKVNodeClient(n.conn).GetNodeStatus(ctx, &emptypb.Empty{})
	return err == nil && len(s.GetVBuckets()) == 1 && s.GetVBuckets()[0].GetIsLeader()
}

// sow writes the keys that attacks and honest clients read.
func (f *field) sow() {
	f.t.Helper()
	ctx := testkit.Within(f.t, time.Minute)
	kv := serverpb.NewDKVClient(f.writes.conn)
	put := func(key, value []byte) {
		if _, err := kv.Put(ctx, &serverpb.PutRequest{Key: key, Value: value}); err != nil {
			f.t.Fatalf("writing %s: %v", key, err)
		}
	}
	put(attack.Large, make([]byte, 1<<20))
	for i := range honestKeys {
		put(honestKey(i), make([]byte, honestValue))
	}
	for _, n := range f.reads {
		testkit.Eventually(f.t, "readers have all of it", func() bool {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			got, err := serverpb.NewDKVClient(n.conn).Get(ctx, &serverpb.GetRequest{Key: honestKey(honestKeys - 1)})
			return err == nil && got.GetFound()
		})
	}
}

// grow writes so many MiB of values that no attack reads by their keys.
func (f *field) grow(mib int) {
	f.t.Helper()
	const pairs = 16
	ctx := testkit.Within(f.t, 10*time.Minute)
	kv := serverpb.NewDKVClient(f.writes.conn)
	value := make([]byte, 1<<20/pairs)
	for i := range mib {
		var all []*serverpb.PutRequest
		for j := range pairs {
			_, _ = rand.Read(value) // never fails
			all = append(all, &serverpb.PutRequest{Key: fmt.Appendf(nil, "grown/%06d/%02d", i, j), Value: slices.Clone(value)})
		}
		if _, err := kv.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: all, MaySplit: true}); err != nil {
			f.t.Fatalf("growing to %d MiB: %v", i, err)
		}
	}
}

func (f *field) close() {
	for i := len(f.nodes) - 1; i >= 0; i-- {
		n := f.nodes[i]
		if n.conn != nil {
			_ = n.conn.Close()
		}
		n.Kill()
		if f.t.Failed() {
			f.t.Logf("the end of %s's log:\n%s", n.name, n.Tail(30))
		}
	}
}

// logged is how many bytes the nodes have logged.
func (f *field) logged() (total int64) {
	for _, n := range f.nodes {
		if info, err := os.Stat(n.log); err == nil {
			total += info.Size()
		}
	}
	return total
}
