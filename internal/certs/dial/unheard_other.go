//go:build !linux

package dial

import (
	"syscall"
	"time"
)

// giveUp does nothing on systems whose connections cannot be told when to fail.
func giveUp(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
