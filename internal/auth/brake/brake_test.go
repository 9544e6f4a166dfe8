package brake

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var here, there = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

// took is how long the answer to a failure takes.
func took(b *Brake, host netip.Addr) time.Duration {
	began := time.Now()
	b.Failed(host)
	return time.Since(began)
}

// waiting is how many answers wait.
func waiting(b *Brake) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

func TestFailuresTakeLongerAndLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Brake
		for n := range free {
			if d := took(&b, here); d != 0 {
				t.Errorf("failure %d takes %v", n, d)
			}
		}
		last := time.Duration(0)
		for n := range 20 {
			d := took(&b, here)
			if d < last && d != longestDelay/2 || d > longestDelay || n == 0 && d != firstDelay || n > 10 && d < longestDelay/2 {
				t.Errorf("failure %d takes %v after one of %v", free+n, d, last)
			}
			last = d
		}
		if d := took(&b, there); d != 0 {
			t.Errorf("another host waits for %v", d)
		}
		time.Sleep(time.Minute)
		if d := took(&b, here); d != 0 {
			t.Errorf("a minute later the host waits for %v", d)
		}
	})
}

func TestFewAnswersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Brake
		for range free {
			b.Failed(here)
		}
		var calls sync.WaitGroup
		for range 10 * maxWaiting {
			calls.Go(func() { b.Failed(here) })
		}
		synctest.Wait()
		if n := waiting(&b); n != maxWaiting {
			t.Errorf("%d answers of a host wait", n)
		}
		for n := range 10 * maxWaitingOfAll {
			calls.Go(func() {
				for range free + 1 {
					b.Failed(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}))
				}
			})
		}
		synctest.Wait()
		if n := waiting(&b); n > maxWaitingOfAll {
			t.Errorf("%d answers wait", n)
		}
		calls.Wait()
		if n := waiting(&b); n != 0 {
			t.Errorf("%d answers wait in the end", n)
		}
		for host, c := range b.hosts {
			if c.waiting != 0 {
				t.Errorf("%d answers of %v wait in the end", c.waiting, host)
			}
		}
	})
}

// TestManyHostsAreSlowedTogether fails once from each of many hosts, and looks at the memory
// that they take.
func TestManyHostsAreSlowedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Brake
		var slowed sync.WaitGroup
		for n := range 3 * maxHosts {
			slowed.Go(func() { b.Failed(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})) })
		}
		synctest.Wait()
		slowed.Wait()
		if len(b.hosts) > maxHosts {
			t.Errorf("%d hosts are remembered", len(b.hosts))
		}
		if d := took(&b, here); d == 0 {
			t.Error("a failure of a new host is answered at once")
		}
	})
}

func TestNetworks(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"::ffff:192.0.2.1", "192.0.2.1", true},
		{"2001:db8::1", "2001:db8::2", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if same := network(netip.MustParseAddr(c.a)) == network(netip.MustParseAddr(c.b)); same != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, same)
		}
	}
	var b Brake
	b.Failed(netip.Addr{}) // a connection without an address
	if fmt.Sprint(network(netip.Addr{})) != "invalid Prefix" {
		t.Error("no address is a network")
	}
}
