package systems

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/tools/bench/etcd"
	"github.com/dkvdb/dkv/tools/bench/table"
)

// clusterSize is how many nodes a cluster has.
const clusterSize = 3

// StartDKV runs a cluster of dkvsrv, of the given program, with its defaults.
func StartDKV(ctx context.Context, name table.System, program, dir string, vBuckets int) (*System, error) {
	return start(ctx, &System{Name: name, program: program, kind: members{vBuckets}}, dir, clusterSize)
}

// StartStandalone runs a single dkvsrv.
func StartStandalone(ctx context.Context, program, dir string) (*System, error) {
	return start(ctx, &System{Name: table.Standalone, program: program, kind: standalone{}}, dir, 1)
}

// StartEtcd runs a cluster of etcd with its defaults, but with room for all that is
// written: etcd keeps every version of a key.
func StartEtcd(ctx context.Context, program, dir string) (*System, error) {
	return start(ctx, &System{Name: table.Etcd, program: program, kind: etcdKind{}}, dir, clusterSize)
}

// StartEcho runs the reference server that only answers.
func StartEcho(ctx context.Context, program, dir string) (*System, error) {
	return start(ctx, &System{Name: table.Echo, program: program, kind: echo{}}, dir, 1)
}

// nodeArgs are those of every dkvsrv.
func nodeArgs(n *Node) []string {
	return []string{"--node-name", n.name, "--db-folder", n.dir, "--listen-addr", n.Addr, "--http-listen-addr", n.http,
		"--disable-discovery-client", "--config", n.config()}
}

// config is an empty file, so that no file of this machine is read.
func (n *Node) config() string { return n.dir + ".yaml" }

// standalone is a dkvsrv alone.
type standalone struct{}

func (standalone) args(n *Node, _ []*Node) []string                         { return nodeArgs(n) }
func (standalone) wrap(c grpc.ClientConnInterface) grpc.ClientConnInterface { return c }
func (standalone) leads(context.Context, *Node) (bool, error)               { return true, nil }

// members are dkvsrv nodes in a Raft cluster.
type members struct{ vBuckets int }

func (m members) args(n *Node, all []*Node) []string {
	var urls []string
	for _, one := range all {
		urls = append(urls, "http://"+one.peer)
	}
	return append(nodeArgs(n), "--role", "master", "--vbuckets", strconv.Itoa(m.vBuckets),
		"--nexus-node-url", "http://"+n.peer, "--nexus-cluster-url", strings.Join(urls, ","))
}

func (members) wrap(c grpc.ClientConnInterface) grpc.ClientConnInterface { return c }

func (members) leads(ctx context.Context, n *Node) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	st, err := admin.NodeStatus(ctx, n.conn)
	if err != nil {
		return false, err
	}
	return len(st.GetVBuckets()) > 0 && st.GetVBuckets()[0].GetIsLeader(), nil
}

// echo is the reference server.
type echo struct{}

func (echo) args(n *Node, _ []*Node) []string                         { return []string{"echo", n.Addr} }
func (echo) wrap(c grpc.ClientConnInterface) grpc.ClientConnInterface { return c }
func (echo) leads(context.Context, *Node) (bool, error)               { return true, nil }

// etcdKind is etcd.
type etcdKind struct{}

// etcdQuota is the size of etcd's database beyond which it rejects writes. It is the
// largest that etcd suggests.
const etcdQuota = 8 << 30

func (etcdKind) args(n *Node, all []*Node) []string {
	var cluster []string
	for _, one := range all {
		cluster = append(cluster, one.name+"=http://"+one.peer)
	}
	client, peer := "http://"+n.Addr, "http://"+n.peer
	return []string{"--name", n.name, "--data-dir", n.dir, "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(cluster, ","),
		"--initial-cluster-state", "new", "--quota-backend-bytes", fmt.Sprint(etcdQuota)}
}

func (etcdKind) wrap(c grpc.ClientConnInterface) grpc.ClientConnInterface {
	return etcd.Conn{ClientConnInterface: c}
}

func (etcdKind) leads(ctx context.Context, n *Node) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	st, err := etcd.Conn{ClientConnInterface: n.conn}.GetStatus(ctx)
	return st.Leads, err
}
