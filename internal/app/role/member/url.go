package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/dkvdb/dkv/internal/app/hosts"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
)

// nodeURL is the node's Raft address; empty if it is to be found in the list.
// A master that has neither is alone until others are added to it: it keeps the address
// that it found free at its first start, on the host of its gRPC address.
func (m *Member) nodeURL() (string, error) {
	nexus := &m.node.Config.Nexus
	if nexus.NodeURL != "" || len(nexus.ClusterURLs) > 0 || nexus.Join {
		return nexus.NodeURL, nil
	}
	if url, err := bootstrap.StoredURL(m.node.Dir.Path()); err != nil || url != "" {
		return url, err
	}
	return freeURL(m.node)
}

// freeURL is an address that is free for Raft, on the host of the node's gRPC address.
func freeURL(n *node.Node) (string, error) {
	host, _, err := net.SplitHostPort(n.Info.Address)
	if err != nil {
		return "", err
	}
	l, err := listenRaft(host)
	if err != nil {
		return "", fmt.Errorf("%w; set --nexus-node-url to an address of this host that the other masters reach", err)
	}
	address := l.Addr().String()
	if _, port, _ := net.SplitHostPort(address); port != strconv.Itoa(defaultRaftPort) {
		n.Log.Warn("the default Raft port is taken; this master keeps another one (--nexus-node-url sets it)", "taken", defaultRaftPort, "raft", address)
	}
	return bootstrap.FormatURL(address), l.Close()
}

// Reserve returns the Raft address and the id of the disk that a node has as a member if a
// promotion makes it one, and writes them down.
func Reserve(ctx context.Context, n *node.Node) (url, disk string, err error) {
	if n.Dir == nil {
		return "", "", errors.New("it is diskless, and what it acknowledged as a master would be lost with the process")
	}
	if engine := n.Config.Storage.Engine; engine != config.RocksDB {
		return "", "", fmt.Errorf("it runs on %s, and masters of several vBuckets or nodes cannot: start it with --db-engine rocksdb on an empty db-folder, wait until it has the data, and promote it then", engine)
	}
	switch nexus := &n.Config.Nexus; {
	case nexus.NodeURL != "":
		url = nexus.NodeURL
	case len(nexus.ClusterURLs) > 0:
		url, err = bootstrap.OwnURL(ctx, nexus.ClusterURLs, bootstrap.Host{Addrs: hosts.Own(), Lookup: hosts.Lookup})
	default:
		url, err = bootstrap.ReservedURL(n.Dir.Path())
	}
	if err == nil && url == "" {
		url, err = freeURL(n)
	}
	if err == nil {
		disk, err = bootstrap.Reserve(n.Dir.Path(), url)
	}
	return url, disk, err
}

const (
	// defaultRaftPort is the port for Raft of a master that is not configured with one.
	defaultRaftPort = 9020
	// otherRaftPorts are tried after it. A master keeps its port for good, so it must not
	// be one that the system gives to outgoing connections while the master is down.
	otherRaftPorts, lastRaftPort = 9120, 9219
)

// listenRaft listens on the first port of a host that is free for Raft.
func listenRaft(host string) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(defaultRaftPort)))
	for port := otherRaftPorts; port <= lastRaftPort && errors.Is(err, syscall.EADDRINUSE); port++ {
		l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return l, err
}
