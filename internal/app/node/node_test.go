package node

import (
	"net"
	"testing"
)

func TestReachable(t *testing.T) {
	addr := func(text string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct{ bound, advertised, want string }{
		{"0.0.0.0:8081", "10.0.0.7:8080", "10.0.0.7:8081"},
		{"[::]:8081", "node1:8080", "node1:8081"},
		{"127.0.0.1:8081", "10.0.0.7:8080", "127.0.0.1:8081"},
	} {
		if got := reachable(addr(c.bound), c.advertised); got != c.want {
			t.Errorf("%s, advertised as %s, is reached at %s, not %s", c.bound, c.advertised, got, c.want)
		}
	}
}
