package app

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
)

// There is one rule for gRPC and HTTP, which package access applies. With auth-file the
// identity of the caller decides. Without it the address does: calls are accepted from this
// machine, from the hosts of the cluster's own members, which forward calls to each other,
// and with the certificate of a node; allow-insecure opens the others to every host.

// newGuard makes what decides about all calls.
func (a *app) newGuard() *access.Guard {
	return access.NewGuard(access.Options{
		Authenticator: a.node.Auth,
		Database:      a.node.Layout.Database,
		Exposure:      access.Exposure(a.node.Config.Network.AllowInsecure),
		OfNode:        a.ofNode(),
		Here:          a.isOwn,
		Member:        func(from netip.Addr) bool { return a.memberHosts.Has(from, a.memberAddresses) },
		Address:       a.localAddress,
	})
}

// ofNode reports whether a connection has shown the certificate of a node; nil without TLS.
func (a *app) ofNode() func(*tls.ConnectionState) bool {
	if a.node.Certs == nil {
		return nil
	}
	return func(state *tls.ConnectionState) bool { return certs.OfNode(state, a.node.Certs.NodeName()) }
}

// isOwn reports whether an address is this machine's: a program on it may call the node at
// the address at which other machines reach it.
func (a *app) isOwn(from netip.Addr) bool {
	for _, l := range a.listening() {
		at, err := netip.ParseAddrPort(l.String())
		if err != nil {
			continue
		}
		if at.Addr().Unmap() == from || at.Addr().IsUnspecified() && slices.Contains(a.ownHosts.Addresses(), from) {
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

// memberAddresses are where the members of the cluster serve and speak Raft, host:port: those
// that are configured, and those that the node has heard of since.
func (a *app) memberAddresses() []string {
	var out []string
	for _, url := range a.node.Config.Nexus.ClusterURLs {
		if address, err := bootstrap.ParseURL(url); err == nil {
			out = append(out, address)
		}
	}
	if !a.opened.Load() {
		return out
	}
	return append(out, a.role.Cluster().Addresses()...)
}

// insecure is what other hosts may do without authentication; "" for nothing.
func (a *app) insecure() string {
	exposure := a.node.Config.Network.AllowInsecure
	if a.node.Auth != nil || exposure == config.ExposeNothing {
		return ""
	}
	return string(exposure)
}

// logExposure says what other hosts may do without authentication.
func (a *app) logExposure() {
	if a.node.Auth != nil {
		return
	}
	exposed := a.exposedAddresses()
	switch exposure := a.node.Config.Network.AllowInsecure; {
	case len(exposed) == 0:
	case exposure == config.ExposeAll:
		a.node.Log.Warn("NO AUTHENTICATION: allow-insecure lets every host that reaches this node read and change all data and administer the node; "+
			"configure tls-mode and auth-file, or keep the network closed", "exposed", exposed)
	case exposure == config.ExposeData:
		a.node.Log.Warn("NO AUTHENTICATION: allow-insecure lets every host that reaches this node read and change all data; "+
			"configure tls-mode and auth-file, or keep the network closed", "exposed", exposed)
	default:
		a.node.Log.Warn("protected mode: without authentication, calls are accepted from this machine and the members of its cluster only; "+
			"configure tls-mode and auth-file, or set allow-insecure: data on a network that keeps others out", "exposed", exposed)
	}
}

// exposedAddresses are the addresses that other hosts reach.
func (a *app) exposedAddresses() (out []string) {
	for _, l := range []struct {
		key  string
		addr net.Addr
	}{
		{"listen-addr", a.node.GRPC.Addr()},
		{"http-listen-addr", a.http.Addr()},
		{"nexus-node-url", a.raftAddr()},
	} {
		if tcp, ok := l.addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
			out = append(out, l.key+" "+l.addr.String())
		}
	}
	return out
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
