package app

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/server"
)

// TestAdministrativeCallsAreOfThisMachineAndTheMembers: who asks from elsewhere is told
// what to do, unless allow-insecure opens the node.
func TestAdministrativeCallsAreOfThisMachineAndTheMembers(t *testing.T) {
	l, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := &node{cfg: new(config.Config), grpcListener: l}
	n.memberHosts.known = map[string][]netip.Addr{"two": {netip.MustParseAddr("10.0.0.2")}}
	n.memberHosts.asked = time.Now().Add(time.Hour)
	for from, admitted := range map[string]bool{
		"127.0.0.1": true, "127.8.8.8": true, "::1": true, "::ffff:127.0.0.1": true, "10.0.0.2": true, "::ffff:10.0.0.2": true,
		"10.0.0.3": false, "192.0.2.1": false, "2001:db8::1": false, "0.0.0.0": false,
	} {
		err := n.admitAdmin(netip.MustParseAddr(from))
		if (err == nil) != admitted {
			t.Errorf("%s: %v", from, err)
		}
		if err != nil && (kv.KindOf(err) != kv.Precondition || !strings.Contains(err.Error(), "dkvctl -a "+l.Addr().String()) || !strings.Contains(err.Error(), "allow-insecure: true")) {
			t.Errorf("%s: %v", from, err)
		}
	}
	if n.admitAdmin(netip.Addr{}) == nil {
		t.Error("what has no address is let in")
	}
	n.cfg.Network.AllowInsecure = true
	if err := n.admitAdmin(netip.MustParseAddr("192.0.2.1")); err != nil {
		t.Error(err)
	}
}

// TestOwnAddressIsThisMachine: a node that listens everywhere takes administrative calls
// that were made on its machine to any of the machine's addresses.
func TestOwnAddressIsThisMachine(t *testing.T) {
	n := &node{cfg: new(config.Config), grpcListener: everywhere{}}
	own := 0
	for _, a := range ownAddrs() {
		if a.IsLoopback() || a.Is6() && !a.IsGlobalUnicast() {
			continue
		}
		own++
		if err := n.admitAdmin(a); err != nil {
			t.Errorf("%v: %v", a, err)
		}
	}
	if own == 0 {
		t.Log("this machine has no address but loopback")
	}
	if n.admitAdmin(netip.MustParseAddr("240.0.0.1")) == nil { // which no machine has
		t.Error("another host is let in")
	}
}

// everywhere is a listener at all addresses, as far as its own address says.
type everywhere struct{ net.Listener }

func (everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6unspecified, Port: 9090} }

// TestHostAddresses: hosts are known by address and by name, and those that cannot be looked up
// are none.
func TestHostAddresses(t *testing.T) {
	var h hosts
	list := func() []string {
		return []string{"10.0.0.1:9020", "localhost:8080", "no-such-host.invalid:1", "nonsense"}
	}
	has := func(a string) bool { return h.has(netip.MustParseAddr(a), list) }
	if !has("10.0.0.1") || !has("127.0.0.1") && !has("::1") || has("10.0.0.2") {
		t.Errorf("%v", h.known)
	}
}

// TestHostsFollowTheList: a member that was just added is known with the next call, and
// one that was removed is not any more.
func TestHostsFollowTheList(t *testing.T) {
	var h hosts
	list := []string{"10.0.0.1:1"}
	has := func(a string) bool { return h.has(netip.MustParseAddr(a), func() []string { return list }) }
	if !has("10.0.0.1") || has("10.0.0.2") {
		t.Errorf("%v", h.known)
	}
	list = []string{"10.0.0.2:1", "10.0.0.2:2"}
	if has("10.0.0.1") || !has("10.0.0.2") {
		t.Errorf("%v", h.known)
	}
}

// TestHostsThatCannotBeLookedUp: a name server that says nothing of one host hides no
// other, and what it said before counts until it says something else.
func TestHostsThatCannotBeLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers, silent := map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}, map[string]bool{"a": true}
		h := hosts{lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
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
			return h.has(netip.MustParseAddr(a), func() []string { return []string{"a:1", "b:1"} })
		}
		if has("10.0.0.1") || !has("10.0.0.2") {
			t.Errorf("while a is not told: %v", h.known)
		}
		silent["a"], silent["b"] = false, true
		time.Sleep(2 * hostsKept)
		if !has("10.0.0.1") || !has("10.0.0.2") {
			t.Errorf("while b is not told any more: %v", h.known)
		}
		silent["b"] = false
		delete(answers, "b")
		time.Sleep(2 * hostsKept)
		if !has("10.0.0.1") || has("10.0.0.2") {
			t.Errorf("when b is gone: %v", h.known)
		}
	})
}
