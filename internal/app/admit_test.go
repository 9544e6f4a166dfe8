package app

import (
	"net/netip"
	"strings"
	"testing"
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
	n.memberHosts.known = map[netip.Addr]bool{netip.MustParseAddr("10.0.0.2"): true}
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

// TestHostAddresses: hosts are known by address and by name, and those that cannot be
// looked up are none.
func TestHostAddresses(t *testing.T) {
	got := hostAddresses([]string{"10.0.0.1:9020", "localhost:8080", "no-such-host.invalid:1", "nonsense"})
	if !got[netip.MustParseAddr("10.0.0.1")] || !got[netip.MustParseAddr("127.0.0.1")] && !got[netip.MustParseAddr("::1")] || len(got) > 3 {
		t.Errorf("%v", got)
	}
}
