package app

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/app/hosts"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
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

// TestAdministrativeCallsAreOfThisMachineAndTheMembers: a call from elsewhere is answered
// with what to do, unless allow-insecure opens the node.
func TestAdministrativeCallsAreOfThisMachineAndTheMembers(t *testing.T) {
	l, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := &app{node: &node.Node{Config: new(config.Config), GRPC: l, HTTP: l}, role: memberAt{at: "10.0.0.2:1"}}
	a.opened.Store(true)
	for from, admitted := range map[string]bool{
		"127.0.0.1": true, "127.8.8.8": true, "::1": true, "::ffff:127.0.0.1": true, "10.0.0.2": true, "::ffff:10.0.0.2": true,
		"10.0.0.3": false, "192.0.2.1": false, "2001:db8::1": false, "0.0.0.0": false,
	} {
		err := a.admit(netip.MustParseAddr(from))
		if (err == nil) != admitted {
			t.Errorf("%s: %v", from, err)
		}
		if err != nil && (kv.KindOf(err) != kv.Precondition || !strings.Contains(err.Error(), "dkvctl -a "+l.Addr().String()) || !strings.Contains(err.Error(), "allow-insecure: true")) {
			t.Errorf("%s: %v", from, err)
		}
	}
	if a.admit(netip.Addr{}) == nil {
		t.Error("a caller without an address is admitted")
	}
	a.node.Config.Network.AllowInsecure = true
	if err := a.admit(netip.MustParseAddr("192.0.2.1")); err != nil {
		t.Error(err)
	}
}

// TestOwnAddressIsThisMachine: a node that listens everywhere takes administrative calls
// that were made on its machine to any of the machine's addresses.
func TestOwnAddressIsThisMachine(t *testing.T) {
	a := &app{node: &node.Node{Config: new(config.Config), GRPC: everywhere{}, HTTP: everywhere{}}}
	own := 0
	for _, addr := range hosts.Own() {
		if addr.IsLoopback() || addr.Is6() && !addr.IsGlobalUnicast() {
			continue
		}
		own++
		if err := a.admit(addr); err != nil {
			t.Errorf("%v: %v", addr, err)
		}
	}
	if own == 0 {
		t.Log("this machine has no address but loopback")
	}
	if a.admit(netip.MustParseAddr("240.0.0.1")) == nil { // which no machine has
		t.Error("another host is admitted")
	}
}

// everywhere is a listener that says that it listens at all addresses.
type everywhere struct{ net.Listener }

func (everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6unspecified, Port: 9090} }
