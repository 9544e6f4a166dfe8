package hosts

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestHostAddresses: hosts are known by address and by name. A host that cannot be looked up
// has no address.
func TestHostAddresses(t *testing.T) {
	var h Known
	list := func() []string {
		return []string{"10.0.0.1:9020", "localhost:8080", "no-such-host.invalid:1", "nonsense"}
	}
	has := func(a string) bool { return h.Has(netip.MustParseAddr(a), list) }
	if !has("10.0.0.1") || !has("127.0.0.1") && !has("::1") || has("10.0.0.2") {
		t.Errorf("%v", h.known)
	}
}

// TestHostsFollowTheList: a member that was just added is known with the next call, and
// one that was removed is not any more.
func TestHostsFollowTheList(t *testing.T) {
	var h Known
	list := []string{"10.0.0.1:1"}
	has := func(a string) bool { return h.Has(netip.MustParseAddr(a), func() []string { return list }) }
	if !has("10.0.0.1") || has("10.0.0.2") {
		t.Errorf("%v", h.known)
	}
	list = []string{"10.0.0.2:1", "10.0.0.2:2"}
	if has("10.0.0.1") || !has("10.0.0.2") {
		t.Errorf("%v", h.known)
	}
}

// TestHostsThatCannotBeLookedUp: a name server that does not answer for one host hides no
// other, and its last answer counts until it gives another one.
func TestHostsThatCannotBeLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers, silent := map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}, map[string]bool{"a": true}
		h := Known{lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			if silent[host] {
				<-ctx.Done()
				return nil, &net.DNSError{Err: "timeout", Name: host, IsTimeout: true}
			}
			if a, there := answers[host]; there {
				return []netip.Addr{netip.MustParseAddr(a)}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}}
		has := func(a string) bool {
			return h.Has(netip.MustParseAddr(a), func() []string { return []string{"a:1", "b:1"} })
		}
		if has("10.0.0.1") || !has("10.0.0.2") {
			t.Errorf("while a cannot be looked up: %v", h.known)
		}
		silent["a"], silent["b"] = false, true
		time.Sleep(2 * hostsKept)
		if !has("10.0.0.1") || !has("10.0.0.2") {
			t.Errorf("while b can no longer be looked up: %v", h.known)
		}
		silent["b"] = false
		delete(answers, "b")
		time.Sleep(2 * hostsKept)
		if !has("10.0.0.1") || has("10.0.0.2") {
			t.Errorf("when b is gone: %v", h.known)
		}
	})
}
