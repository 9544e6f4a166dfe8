package host

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
)

// TestStartErrorsSayWhatToDo: about each address that Raft cannot listen on.
func TestStartErrorsSayWhatToDo(t *testing.T) {
	for want, err := range map[string]error{
		"choose another port in nexus-node-url":                                                   fmt.Errorf("listen: %w", syscall.EADDRINUSE),
		"it is no address of this machine":                                                        &net.OpError{Op: "listen", Err: syscall.EADDRNOTAVAIL},
		`the host "db1" in nexus-node-url cannot be resolved here: correct it (getent hosts db1)`: &net.OpError{Op: "listen", Err: &net.DNSError{Name: "db1", Err: "no such host"}},
		"another reason": errors.New("another reason"),
	} {
		if got := startError("db1:9020", err).Error(); !strings.HasPrefix(got, "raft on db1:9020 (nexus-node-url): ") || !strings.Contains(got, want) {
			t.Errorf("%v: %s", err, got)
		}
	}
}
