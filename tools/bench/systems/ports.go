package systems

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below those that kernels give to outgoing connections (from 32768
// on Linux): a node that is killed must find its own free when it starts again.
const (
	lowestPort  = 20_000
	highestPort = 32_000
)

// freeAddress returns a loopback address that nothing listens at.
func freeAddress() (string, error) {
	var last error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", lowestPort+rand.IntN(highestPort-lowestPort))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		last = err
	}
	return "", errors.Join(errors.New("no free port on 127.0.0.1"), last)
}
