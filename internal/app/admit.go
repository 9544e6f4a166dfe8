package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// One rule for gRPC and HTTP: administrative calls are taken from this machine and from
// the hosts of the cluster's own members, which hand calls on to each other, until
// allow-insecure opens them to every host. Calls that read or write keys are not
// concerned.

// admitAdmin says why an administrative call from an address is not taken.
func (n *node) admitAdmin(from netip.Addr) error {
	from = from.Unmap()
	if from.IsLoopback() || n.cfg.Network.AllowInsecure || n.isOwn(from) || n.memberHosts.has(from, n.memberAddresses) {
		return nil
	}
	return kv.Errorf(kv.Precondition, "administrative calls are taken from this machine and the members of its cluster only, and this one comes from %v: "+
		"run it on the node itself (dkvctl -a %s), or set allow-insecure: true there if only hosts that you trust reach it", from, n.localAddress())
}

// isOwn reports whether an address is the one that this node listens on, if that is a
// single one: a program on this machine that calls it comes from there.
func (n *node) isOwn(from netip.Addr) bool {
	for _, l := range n.listening() {
		if at, err := netip.ParseAddrPort(l.String()); err == nil && !at.Addr().IsUnspecified() && at.Addr().Unmap() == from {
			return true
		}
	}
	return false
}

// listening are the addresses of the listeners.
func (n *node) listening() []net.Addr {
	out := []net.Addr{n.grpcListener.Addr()}
	if n.http != nil {
		out = append(out, n.http.Addr())
	}
	return out
}

// localAddress is where this machine reaches the node.
func (n *node) localAddress() string {
	at, err := netip.ParseAddrPort(n.grpcListener.Addr().String())
	if err != nil || !at.Addr().IsUnspecified() {
		return n.grpcListener.Addr().String()
	}
	return fmt.Sprintf("127.0.0.1:%d", at.Port())
}

// memberAddresses are where the members of the cluster serve and speak Raft, host:port.
func (n *node) memberAddresses() []string {
	if !n.opened.Load() || n.cluster == nil {
		return nil
	}
	return n.cluster.Addresses()
}

// hosts knows the addresses of a list of hosts, as it was some seconds ago at the most.
type hosts struct {
	mu    sync.Mutex
	known map[netip.Addr]bool
	asked time.Time
}

const (
	// hostsKept is for how long an answer is good enough. What is asked by strangers
	// must not look names up each time.
	hostsKept = 5 * time.Second
	// hostsLookup bounds looking all of them up.
	hostsLookup = time.Second
)

// has reports whether an address is one of the hosts'.
func (h *hosts) has(from netip.Addr, list func() []string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil || time.Since(h.asked) > hostsKept {
		h.known, h.asked = hostAddresses(list()), time.Now()
	}
	return h.known[from]
}

// hostAddresses are the addresses of the hosts of a list of host:port. Names that cannot
// be looked up have none.
func hostAddresses(list []string) map[netip.Addr]bool {
	ctx, cancel := context.WithTimeout(context.Background(), hostsLookup)
	defer cancel()
	out := make(map[netip.Addr]bool)
	for _, address := range list {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			continue
		}
		for _, ip := range ips {
			out[ip.Unmap()] = true
		}
	}
	return out
}
