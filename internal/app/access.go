package app

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/dkvdb/dkv/internal/app/hosts"
	"github.com/dkvdb/dkv/internal/kv"
)

// There is one rule for gRPC and HTTP: administrative calls are accepted from this machine
// and from the hosts of the cluster's own members, which forward calls to each other, unless
// allow-insecure opens them to every host. The rule is not for calls that read or write keys.

// admit returns an error if an administrative call from an address is rejected.
func (a *app) admit(from netip.Addr) error {
	from = from.Unmap()
	if from.IsLoopback() || a.node.Config.Network.AllowInsecure || a.isOwn(from) || a.memberHosts.Has(from, a.memberAddresses) {
		return nil
	}
	return kv.Errorf(kv.Precondition, "administrative calls are taken from this machine and the members of its cluster only, and this one comes from %v: "+
		"run it on the node itself (dkvctl -a %s), or set allow-insecure: true there if only hosts that you trust reach it", from, a.localAddress())
}

// isOwn reports whether an address is this machine's: a program on it may call the node at
// the address at which other machines reach it.
func (a *app) isOwn(from netip.Addr) bool {
	for _, l := range a.listening() {
		at, err := netip.ParseAddrPort(l.String())
		if err != nil {
			continue
		}
		if at.Addr().Unmap() == from || at.Addr().IsUnspecified() && slices.Contains(hosts.Own(), from) {
			return true
		}
	}
	return false
}

// listening are the addresses of the listeners.
func (a *app) listening() []net.Addr {
	return []net.Addr{a.node.GRPC.Addr(), a.node.HTTP.Addr()}
}

// localAddress is where this machine reaches the node.
func (a *app) localAddress() string {
	at, err := netip.ParseAddrPort(a.node.GRPC.Addr().String())
	if err != nil || !at.Addr().IsUnspecified() {
		return a.node.GRPC.Addr().String()
	}
	return fmt.Sprintf("127.0.0.1:%d", at.Port())
}

// memberAddresses are where the members of the cluster serve and speak Raft, host:port.
func (a *app) memberAddresses() []string {
	if !a.opened.Load() {
		return nil
	}
	return a.role.Cluster().Addresses()
}

// warnOfExposure says which addresses other hosts reach without authentication.
func (a *app) warnOfExposure() {
	if a.node.Config.Network.AllowInsecure {
		a.node.Log.Warn("allow-insecure is set: administrative calls of every host that reaches this node are taken without authentication")
	}
	const all = "NO AUTHENTICATION: every host that reaches this address can %s; listen on a loopback address or keep the network closed"
	for _, l := range []struct {
		key, can string
		addr     net.Addr
	}{
		{"listen-addr", "read and change all data", a.node.GRPC.Addr()},
		{"http-listen-addr", "read this node's state and metrics", a.http.Addr()},
		{"nexus-node-url", "take part in the Raft log, and so read and change all data", a.raftAddr()},
	} {
		if tcp, ok := l.addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
			a.node.Log.Warn(fmt.Sprintf(all, l.can), "exposed", l.key+" "+l.addr.String())
		}
	}
}

// raftAddr is where the Raft port is bound, according to its URL; nil if there is none.
func (a *app) raftAddr() net.Addr {
	address := a.role.RaftAddress()
	if address == "" {
		return nil
	}
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil
	}
	return addr
}
