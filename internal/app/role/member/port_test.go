package member

import (
	"net"
	"testing"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/config"
)

// TestWaitingNodesAreInvitedByConfiguredHosts: a node that waits without TLS hears this machine
// and the hosts of its list only, unless it is opened or cannot know who invites it.
func TestWaitingNodesAreInvitedByConfiguredHosts(t *testing.T) {
	clear := func(change func(*config.Config)) func(net.Addr) error {
		cfg := config.Default()
		cfg.Nexus.ClusterURLs = []string{"http://192.0.2.1:9020", "http://192.0.2.2:9020"}
		change(cfg)
		return New(&node.Node{Config: cfg}).clear()
	}
	protected := clear(func(*config.Config) {})
	for host, admitted := range map[string]bool{"127.0.0.1": true, "192.0.2.2": true, "::ffff:192.0.2.1": true, "192.0.2.3": false, "2001:db8::1": false} {
		if err := protected(&net.TCPAddr{IP: net.ParseIP(host), Port: 1}); (err == nil) != admitted {
			t.Errorf("%s: %v", host, err)
		}
	}
	if protected(&net.UnixAddr{Name: "x"}) == nil {
		t.Error("an address without a host is admitted")
	}
	for name, change := range map[string]func(*config.Config){
		"opened":          func(c *config.Config) { c.Network.AllowInsecure = config.ExposeData },
		"joins":           func(c *config.Config) { c.Nexus.Join = true },
		"knows no others": func(c *config.Config) { c.Nexus.ClusterURLs = nil },
	} {
		if clear(change) != nil {
			t.Errorf("a node that %s asks where a connection comes from", name)
		}
	}
}
