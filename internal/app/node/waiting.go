package node

import (
	"errors"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/server"
)

// Waiting answers for a node that cannot serve before other nodes have added it: it says,
// over HTTP and over gRPC, what the node waits for.
type Waiting struct {
	node    *Node
	what    atomic.Pointer[string]
	standIn *server.StandIn
}

var errStarting = errors.New("the node is starting")

// Reason is why nothing is served before the role is open.
func (w *Waiting) Reason() error {
	if what := w.what.Load(); what != nil {
		return errors.New(*what)
	}
	return errStarting
}

// Begin notes what the node waits for, in a sentence, and answers gRPC calls with it
// from now on.
func (w *Waiting) Begin(what string) {
	w.what.Store(&what)
	if w.standIn != nil {
		return
	}
	limits := &w.node.Config.Limits
	var err error
	w.standIn, err = server.BeginStandIn(server.StandInOptions{
		Listener:              w.node.GRPC,
		TLS:                   w.node.GRPCAcceptor(),
		MaxConnections:        limits.Connections,
		MaxConnectionsPerHost: limits.ConnectionsPerHost,
		Why:                   func() string { return w.Reason().Error() },
	})
	if err != nil {
		w.node.Log.Warn("gRPC clients are not told that this node waits", "error", err)
	}
}

// End ends the wait, so that the node's server can take over the listener.
func (w *Waiting) End() error {
	w.what.Store(nil)
	if w.standIn == nil {
		return nil
	}
	return w.standIn.End()
}
