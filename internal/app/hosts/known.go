package hosts

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Known is the addresses of a list of hosts, at most some seconds old. The zero value is
// ready.
type Known struct {
	// lookup finds the addresses of a host; nil asks the system.
	lookup func(context.Context, string) ([]netip.Addr, error)

	mu sync.Mutex
	// known are the addresses of each host of listed.
	known  map[string][]netip.Addr
	listed []string
	asked  time.Time
}

const (
	// hostsKept is for how long an answer is good enough: a stranger's call must not look
	// names up each time.
	hostsKept = 5 * time.Second
	// hostsLookup bounds looking all of them up.
	hostsLookup = time.Second
)

// Has reports whether an address belongs to one of the hosts of a list of host:port. If the
// list has changed it is looked up at once: a member that was just added forwards calls.
func (h *Known) Has(from netip.Addr, list func() []string) bool {
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
// does not answer for one must not keep the others from being known. A host that cannot be
// looked up at present keeps the addresses that it had; a name that does not exist any more
// has none.
func (h *Known) look(listed []string) map[string][]netip.Addr {
	ctx, cancel := context.WithTimeout(context.Background(), hostsLookup)
	defer cancel()
	find := h.lookup
	if find == nil {
		find = Lookup
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
