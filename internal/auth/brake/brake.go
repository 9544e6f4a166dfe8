// Package brake slows callers down that try wrong credentials again and again. Tokens of 256
// random bits cannot be guessed; what it bounds is the load and the log of those who try.
package brake

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// free is how many failures of a host are answered at once; freeOfAll of all hosts
	// together.
	free, freeOfAll = 10, 1000
	// firstDelay is for the failure after those, and each further one takes twice as long as
	// the one before, up to longestDelay.
	firstDelay   = 10 * time.Millisecond
	longestDelay = time.Second
	// forgiven is the time in which one failure is forgotten.
	forgiven = time.Second
	// maxHosts is how many hosts are remembered.
	maxHosts = 4096
	// maxWaiting and maxWaitingOfAll are how many answers of a host, and of all, wait at a
	// time; further ones are given at once, since each of them needs memory.
	maxWaiting, maxWaitingOfAll = 16, 256
)

// Brake counts failures. Its zero value is ready to use.
type Brake struct {
	mu      sync.Mutex
	hosts   map[netip.Prefix]*count
	all     count
	waiting int
}

// count is what is known of a host. A failure fades after some time, so that a client whose
// token was wrong for a while soon is as others are.
type count struct {
	failures int
	since    time.Time // from when on failures fade
	waiting  int
}

// Failed records a failure of a host, and returns when it may be answered: at most
// longestDelay later.
func (b *Brake) Failed(host netip.Addr) {
	c, delay := b.add(network(host), time.Now())
	if delay == 0 {
		return
	}
	time.Sleep(delay)
	b.mu.Lock()
	defer b.mu.Unlock()
	c.waiting--
	b.waiting--
}

// add counts a failure and a caller that waits, and returns for how long; 0 if it does not.
func (b *Brake) add(host netip.Prefix, now time.Time) (*count, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.of(host, now)
	delay := max(c.add(now, free), b.all.add(now, freeOfAll))
	if delay == 0 || c.waiting == maxWaiting || b.waiting == maxWaitingOfAll {
		return c, 0
	}
	c.waiting++
	b.waiting++
	return c, delay
}

// of returns the count of a host. A full table forgets those that have faded, and others
// until a quarter is free: an attack from so many hosts is slowed by the count of all.
func (b *Brake) of(host netip.Prefix, now time.Time) *count {
	if c := b.hosts[host]; c != nil {
		return c
	}
	if b.hosts == nil {
		b.hosts = make(map[netip.Prefix]*count)
	}
	if len(b.hosts) == maxHosts {
		b.forget(now)
	}
	c := new(count)
	b.hosts[host] = c
	return c
}

func (b *Brake) forget(now time.Time) {
	for host, c := range b.hosts {
		if c.fade(now); c.failures == 0 {
			delete(b.hosts, host)
		}
	}
	for host := range b.hosts {
		if len(b.hosts) <= maxHosts*3/4 {
			break
		}
		delete(b.hosts, host)
	}
}

// add counts a failure and returns how long its answer takes.
func (c *count) add(now time.Time, free int) time.Duration {
	c.fade(now)
	// More are not counted, so that no attack is remembered for longer than a minute.
	c.failures = min(c.failures+1, free+60)
	if c.failures <= free {
		return 0
	}
	return min(firstDelay<<min(c.failures-free-1, 10), longestDelay)
}

// fade forgets the failures that were long ago.
func (c *count) fade(now time.Time) {
	n := int(now.Sub(c.since) / forgiven)
	if n >= c.failures {
		c.failures, c.since = 0, now
		return
	}
	c.failures -= n
	c.since = c.since.Add(time.Duration(n) * forgiven)
}

// network is what counts as one host: an IPv4 address, or an IPv6 network of 64 bits, which
// is what one customer of a provider has at least.
func network(host netip.Addr) netip.Prefix {
	host = host.Unmap()
	bits := host.BitLen()
	if host.Is6() {
		bits = 64
	}
	p, err := host.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // of a host that is not known
	}
	return p
}
