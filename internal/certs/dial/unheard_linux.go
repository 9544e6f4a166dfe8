package dial

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// giveUp returns what makes a connection fail when nothing that was sent on it has been
// acknowledged for d. Without that, TCP repeats for a quarter of an hour what was sent to a
// host that is gone, in pauses that double. A node that has come back meanwhile, under
// another address or after a partition, would hear nothing from this one.
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
