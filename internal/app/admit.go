package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
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

// isOwn reports whether an address is this machine's, as that of a program on it is which
// calls the node where others reach it.
func (n *node) isOwn(from netip.Addr) bool {
	for _, l := range n.listening() {
		at, err := netip.ParseAddrPort(l.String())
		if err != nil {
			continue
		}
		if at.Addr().Unmap() == from || at.Addr().IsUnspecified() && slices.Contains(ownAddrs(), from) {
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

// hosts knows the addresses of a list of hosts, as they were some seconds ago at the most.
type hosts struct {
	// lookup finds the addresses of a host; nil asks the system.
	lookup func(context.Context, string) ([]netip.Addr, error)

	mu sync.Mutex
	// known are the addresses of each host of listed.
	known  map[string][]netip.Addr
	listed []string
	asked  time.Time
}

const (
	// hostsKept is for how long an answer is good enough. What is asked by strangers
	// must not look names up each time.
	hostsKept = 5 * time.Second
	// hostsLookup bounds looking all of them up.
	hostsLookup = time.Second
)

// has reports whether an address is one of the hosts'. A list that is another than before
// is looked up at once: a member that was just added hands calls on.
func (h *hosts) has(from netip.Addr, list func() []string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if listed := hostsOf(list()); !slices.Equal(listed, h.listed) || time.Since(h.asked) > hostsKept {
		h.known = h.look(listed)
		h.listed, h.asked = listed, time.Now()
	}
	for _, addresses := range h.known {
		if slices.Contains(addresses, from) {
			return true
		}
	}
	return false
}

// hostsOf are the hosts of a list of host:port, in order and each once.
func hostsOf(list []string) []string {
	var out []string
	for _, address := range list {
		if host, _, err := net.SplitHostPort(address); err == nil {
			out = append(out, host)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// look returns the addresses of hosts. They are looked up side by side: a name server that
// does not answer for one must not keep the others from being known. What cannot be
// told at present is what it was; a name that is not there any more has no address.
func (h *hosts) look(listed []string) map[string][]netip.Addr {
	ctx, cancel := context.WithTimeout(context.Background(), hostsLookup)
	defer cancel()
	find := h.lookup
	if find == nil {
		find = lookup
	}
	found := make([][]netip.Addr, len(listed))
	var wg sync.WaitGroup
	for i, host := range listed {
		wg.Go(func() {
			addresses, err := find(ctx, host)
			var missing *net.DNSError
			if err != nil && !(errors.As(err, &missing) && missing.IsNotFound) {
				addresses = h.known[host]
			}
			for _, a := range addresses {
				found[i] = append(found[i], a.Unmap())
			}
		})
	}
	wg.Wait()
	out := make(map[string][]netip.Addr, len(listed))
	for i, host := range listed {
		out[host] = found[i]
	}
	return out
}
