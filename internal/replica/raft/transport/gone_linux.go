package transport

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// giveUp returns what makes a connection fail when nothing that was sent on it has been
// acknowledged for d. Without that, TCP repeats for a quarter of an hour what goes to a
// host that is gone, in pauses that double: all the while a node that has come back, under
// another address or behind a network that works again, hears nothing from this one, which
// believes that it sends.
func giveUp(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		control := func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		}
		if failed := c.Control(control); failed != nil {
			return failed
		}
		return err
	}
}
