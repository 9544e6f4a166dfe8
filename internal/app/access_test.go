package app

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/app/hosts"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/server"
)

// memberAt is the role of a node whose cluster has members at some addresses, as far as
// package app asks here.
type memberAt struct {
	role.Role
	at string
}

func (m memberAt) Cluster() role.Cluster { return members{at: m.at} }

type members struct {
	role.NoCluster
	at string
}

func (m members) Addresses() []string { return []string{m.at} }

// guarded is an app whose node listens at an address and belongs to a cluster.
func guarded(l net.Listener, role role.Role, exposure config.Exposure) *app {
	a := &app{node: &node.Node{Config: config.Default(), GRPC: l, HTTP: l}, role: role}
	a.node.Config.Network.AllowInsecure = exposure
	a.guard = a.newGuard()
	a.opened.Store(true)
	return a
}

// enter makes a call of a method from an address.
func (a *app) enter(method string, from netip.Addr) error {
	_, err := a.guard.Enter(access.Method(method), &access.Caller{Credentials: auth.Credentials{Host: from}})
	return err
}

// TestCallsAreOfThisMachineAndTheMembers: a call from elsewhere is answered with what to do,
// unless allow-insecure opens the node.
func TestCallsAreOfThisMachineAndTheMembers(t *testing.T) {
	l, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := guarded(l, memberAt{at: "10.0.0.2:1"}, config.ExposeNothing)
	for from, admitted := range map[string]bool{
		"127.0.0.1": true, "127.8.8.8": true, "::1": true, "::ffff:127.0.0.1": true, "10.0.0.2": true, "::ffff:10.0.0.2": true,
		"10.0.0.3": false, "192.0.2.1": false, "2001:db8::1": false, "0.0.0.0": false,
	} {
		for method, remedies := range map[string][]string{
			serverpb.DKV_Get_FullMethodName:             {"auth-file", "allow-insecure: data"},
			serverpb.DKVNode_PauseWrites_FullMethodName: {"dkvctl -a " + l.Addr().String(), "auth-file", "allow-insecure: true"},
		} {
			err := a.enter(method, netip.MustParseAddr(from))
			if (err == nil) != admitted || err != nil && kv.KindOf(err) != kv.Denied {
				t.Errorf("%s from %s: %v", method, from, err)
			}
			for _, remedy := range remedies {
				if err != nil && !strings.Contains(err.Error(), remedy) {
					t.Errorf("%s from %s: %v; want %q in it", method, from, err, remedy)
				}
			}
		}
	}
	if a.enter(serverpb.DKV_Get_FullMethodName, netip.Addr{}) == nil {
		t.Error("a caller without an address is admitted")
	}
	data, all := guarded(l, memberAt{}, config.ExposeData), guarded(l, memberAt{}, config.ExposeAll)
	stranger := netip.MustParseAddr("192.0.2.1")
	for _, err := range []error{
		data.enter(serverpb.DKV_Get_FullMethodName, stranger), all.enter(serverpb.DKVNode_PauseWrites_FullMethodName, stranger),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if data.enter(serverpb.DKVNode_PauseWrites_FullMethodName, stranger) == nil {
		t.Error("allow-insecure: data opens administrative calls")
	}
}

// TestOwnAddressIsThisMachine: a node that listens everywhere takes administrative calls
// that were made on its machine to any of the machine's addresses.
func TestOwnAddressIsThisMachine(t *testing.T) {
	a := guarded(everywhere{}, memberAt{}, config.ExposeNothing)
	own := 0
	for _, addr := range hosts.Own() {
		if addr.IsLoopback() || addr.Is6() && !addr.IsGlobalUnicast() {
			continue
		}
		own++
		if err := a.enter(serverpb.DKV_Get_FullMethodName, addr); err != nil {
			t.Errorf("%v: %v", addr, err)
		}
	}
	if own == 0 {
		t.Log("this machine has no address but loopback")
	}
	if a.enter(serverpb.DKV_Get_FullMethodName, netip.MustParseAddr("240.0.0.1")) == nil { // which no machine has
		t.Error("another host is admitted")
	}
}

// everywhere is a listener that says that it listens at all addresses.
type everywhere struct{ net.Listener }

func (everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6unspecified, Port: 9090} }
