//go:build !linux

package transport

import (
	"syscall"
	"time"
)

// giveUp does nothing where connections cannot be told when to fail.
func giveUp(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
