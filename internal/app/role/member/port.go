package member

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/dkvdb/dkv/internal/app/hosts"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
)

// clear decides which hosts may use the Raft port in the clear while the node waits to become
// a member: the first host that invites it takes it over. Nil is every host: allow-insecure opens the
// port, or the node joins a cluster whose members it cannot know.
func (m *Member) clear() func(net.Addr) error {
	nexus := &m.node.Config.Nexus
	if m.node.Config.Network.AllowInsecure != config.ExposeNothing || nexus.Join || len(nexus.ClusterURLs) == 0 {
		return nil
	}
	var machine hosts.Machine
	var members hosts.Known
	return func(from net.Addr) error {
		at, err := netip.ParseAddrPort(from.String())
		host := at.Addr().Unmap()
		if err == nil && (host.IsLoopback() || slices.Contains(machine.Addresses(), host) || members.Has(host, m.configured)) {
			return nil
		}
		return fmt.Errorf("%s is no host of nexus-cluster-url, and this node has no TLS: add it there, set tls-mode, "+
			"or set allow-insecure: data if only hosts that you trust reach the port", from)
	}
}

// configured are the addresses of nexus-cluster-url, host:port.
func (m *Member) configured() (out []string) {
	for _, url := range m.node.Config.Nexus.ClusterURLs {
		if address, err := bootstrap.ParseURL(url); err == nil {
			out = append(out, address)
		}
	}
	return out
}
