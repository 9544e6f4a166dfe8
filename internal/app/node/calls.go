package node

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/certs/dial"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/peer"
)

// Calls returns how this node calls others: with its certificate, as its TLS mode says, and
// with its token if it is a slave that has one.
func (n *Node) Calls() (peer.Options, error) {
	dialling := peer.DialOptions(n.Certs, n.Log)
	dialling.Faults = n.Faults
	out := peer.Options{
		Dialer:         dial.New(dialling),
		MaxMessageSize: int(n.Config.Limits.MessageSize),
	}
	path := n.Config.Replication.TokenFile
	if path == "" || n.Config.Role != config.RoleSlave && n.Config.ConfiguredRole() != config.RoleSlave {
		return out, nil
	}
	token, err := peer.OpenToken(path, n.Log)
	if err != nil {
		return peer.Options{}, fmt.Errorf("repl-token-file: %w", err)
	}
	out.PerRPC = token
	return out, nil
}
