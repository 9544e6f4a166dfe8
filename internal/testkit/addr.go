package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// Some servers bind their port themselves, and some tests stop a server and start it again
// at its address. So it is not enough to listen on port 0 and close the listener: when the
// port is used, another process may listen on it, or the kernel may have given it to an
// outgoing connection. Three rules exclude both:
//
//   - Each test process has a loopback address of its own, from 127.64.0.0/10. It listens
//     on guardPort there as long as it lives, so that no other test process takes the same
//     address.
//   - Each port is given out once, counting up.
//   - Ports are below 32768, where the kernel's range for outgoing connections begins.
//     (Those have 127.0.0.1 as their source anyway.)
const guardPort, firstPort, lastPort = "9641", 10_000, 32_000

// guard reserves the process's loopback address. It is never closed: the address is free
// again when the process ends.
var guard net.Listener //lint:ignore U1000 it is kept, not read

// claim chooses the process's loopback address.
var claim = sync.OnceValues(func() (string, error) {
	for range 100 {
		ip := net.IPv4(127, byte(64+rand.IntN(64)), byte(rand.IntN(256)), byte(1+rand.IntN(254))).String()
		l, err := net.Listen("tcp", net.JoinHostPort(ip, guardPort))
		if err == nil {
			guard = l
			return ip, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", fmt.Errorf("tests need the loopback addresses 127.0.0.0/8, as Linux has them: %w", err)
		}
	}
	return "", fmt.Errorf("no free address for this process in 127.64.0.0/10")
})

var (
	portMu   sync.Mutex
	lastUsed = firstPort - 1
)

// Host returns the loopback address that only this process uses.
func Host() (string, error) { return claim() }

// Addresses returns n addresses of this process, in the order of their ports, which is also
// the order of strings. Nothing listens on them, and nothing will unless the caller starts it.
func Addresses(n int) ([]string, error) {
	host, err := claim()
	if err != nil {
		return nil, err
	}
	portMu.Lock()
	defer portMu.Unlock()
	var out []string
	for len(out) < n {
		if lastUsed++; lastUsed > lastPort {
			return nil, fmt.Errorf("this process has used all ports from %d to %d", firstPort, lastPort)
		}
		addr := net.JoinHostPort(host, strconv.Itoa(lastUsed))
		l, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue // a server listens on this port at all addresses
		}
		if err != nil {
			return nil, err
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		out = append(out, addr)
	}
	return out, nil
}

// Address returns one address like Addresses.
func Address(t testing.TB) string {
	t.Helper()
	out, err := Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// Listen listens on an address of this process. When the listener is closed, which is up to
// the caller, the address stays reserved for another one.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", Address(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Refusing returns an address of localhost, 127.0.0.1, that refuses connections until the
// test ends: its port is bound, so that no other process takes it, and nothing listens there.
func Refusing(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port))
}
