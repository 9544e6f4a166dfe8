package chaos

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/testkit"
)

// place is an operating system thread in which processes are started and connections
// opened, possibly in a network namespace of its own. Its processes die with it, however
// the test ends.
type place struct {
	calls      chan func()
	tid        int
	ownNetwork bool
	// port is the last one that was assigned in a network of its own.
	port int
}

// newPlace makes a place, with a network of its own if that is requested.
func newPlace(ownNetwork bool) (*place, error) {
	p := &place{calls: make(chan func()), ownNetwork: ownNetwork, port: firstPort}
	made := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, and with it the namespace, ends with the goroutine.
		// The parent-death signal of processes is sent when this thread ends.
		runtime.LockOSThread()
		p.tid = unix.Gettid()
		if ownNetwork {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				made <- fmt.Errorf("unshare a network namespace: %w", err)
				return
			}
		}
		made <- nil
		for f := range p.calls {
			f()
		}
	}()
	return p, <-made
}

// do runs f in the place, one at a time.
func (p *place) do(f func()) {
	done := make(chan struct{})
	p.calls <- func() { defer close(done); f() }
	<-done
}

func (p *place) close() { close(p.calls) }

// run runs a command to its end.
func (p *place) run(line string) error {
	var err error
	p.do(func() {
		args := strings.Fields(line)
		var out []byte
		if out, err = exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
		}
	})
	return err
}

// runAll runs commands, a line each, up to the first that fails.
func (p *place) runAll(lines ...string) error {
	for _, line := range lines {
		if err := p.run(line); err != nil {
			return err
		}
	}
	return nil
}

// namespace is the path of the place's network.
func (p *place) namespace() string { return fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), p.tid) }

// dial connects from within the place. A socket stays in the network in which it was
// opened.
func (p *place) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	p.do(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
	})
	return conn, err
}

// firstPort and the ports after it are outside of the kernel's ephemeral ports.
const firstPort = 10_000

// freeAddr returns an address that no other node gets: in the place's network, or on this
// process's loopback address.
func (p *place) freeAddr(ip string) (string, error) {
	if p.ownNetwork {
		p.port++
		return net.JoinHostPort(ip, strconv.Itoa(p.port)), nil
	}
	addrs, err := testkit.Addresses(1)
	if err != nil {
		return "", err
	}
	return addrs[0], nil
}

// networks makes a network of its own for each of n nodes and one for their
// clients, with a bridge between them. They vanish with their places.
func networks(n int) (clients *place, nodes []*place, err error) {
	defer func() {
		if err != nil && clients != nil {
			clients.close()
			for _, p := range nodes {
				p.close()
			}
		}
	}()
	if clients, err = newPlace(true); err != nil {
		return nil, nil, err
	}
	if err := clients.runAll("ip link set lo up", "ip link add bridge type bridge",
		"ip addr add 10.0.0.254/24 dev bridge", "ip link set bridge up"); err != nil {
		return clients, nil, err
	}
	for i := range n {
		p, err := newPlace(true)
		if err != nil {
			return clients, nodes, err
		}
		nodes = append(nodes, p)
		if err := clients.runAll(
			fmt.Sprintf("ip link add node%d type veth peer name eth0 netns %s", i, p.namespace()),
			fmt.Sprintf("ip link set node%d master bridge up", i)); err != nil {
			return clients, nodes, err
		}
		if err := p.runAll("ip link set lo up", "ip addr add "+nodeIP(i)+"/24 dev eth0", "ip link set eth0 up",
			"iptables -w -L -n"); err != nil {
			return clients, nodes, err
		}
	}
	return clients, nodes, nil
}

// mostNetworks bounds the nodes of a test that have networks of their own.
const mostNetworks = 20

// nodeIP is a node's address in the network of networks.
func nodeIP(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }
