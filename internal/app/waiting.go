package app

import (
	"errors"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/server"
)

// waiting is what a node tells that cannot serve before others have taken it in: over
// HTTP and over gRPC it says what it waits for.
type waiting struct {
	what    atomic.Pointer[string]
	standIn *server.StandIn
}

var errOpening = errors.New("the node is starting")

// opening is why nothing is served before the node has opened.
func (n *node) opening() error {
	if what := n.waiting.what.Load(); what != nil {
		return errors.New(*what)
	}
	return errOpening
}

// waits notes what the node waits for, and has gRPC clients told.
func (n *node) waits(what string) {
	n.waiting.what.Store(&what)
	if n.waiting.standIn != nil {
		return
	}
	var err error
	n.waiting.standIn, err = server.BeginStandIn(server.StandInOptions{
		Listener:              n.grpcListener,
		MaxConnections:        n.cfg.Limits.Connections,
		MaxConnectionsPerHost: n.cfg.Limits.ConnectionsPerHost,
		Why:                   func() string { return n.opening().Error() },
	})
	if err != nil {
		n.log.Warn("gRPC clients are not told that this node waits", "error", err)
	}
}

// waited ends the wait.
func (n *node) waited() error {
	n.waiting.what.Store(nil)
	if n.waiting.standIn == nil {
		return nil
	}
	return n.waiting.standIn.End()
}
