package bootstrap

import (
	"log/slog"
	"net"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/timing"
)

// Options are the settings that a node is started with. Enter checks them.
type Options struct {
	// Dir is the folder of the identity file. It is made when missing.
	Dir string
	// Folders says where all of the node's data is, for an operator who has to move it
	// away; empty means that it is in Dir.
	Folders string
	// URL is the node's own Raft address; if it is empty, Host picks it from Peers.
	URL string
	// Listen is the host:port to wait on; empty means that of URL. It differs if the
	// address that others reach is not one of this machine's own.
	Listen string
	// Address is where the node serves gRPC, host:port.
	Address string
	// Peers are the Raft addresses of the first members, in any order. Empty
	// means a cluster of this node alone.
	Peers []string
	// Join waits to be added to an existing cluster, unless the node belongs to one
	// already.
	Join bool
	// Terms is what all members must have in common.
	Terms Terms
	// Certs secure the port; nil leaves it in the clear.
	Certs *certs.Store
	// Clear, unless nil, returns an error for a connection in the clear from a host that may
	// not use the port.
	Clear func(from net.Addr) error
	// Host knows which addresses are this machine's own; only used if URL is empty.
	Host Host
	// RaftData reports whether the folder of the Raft log holds anything.
	RaftData func() (bool, error)
	// StateThere reports whether a vBucket's folder holds a state.
	StateThere bool
	// Wall returns the machine's time; nil means time.Now.
	Wall func() time.Time
	// Waits, unless nil, is called with what the node waits for, a sentence, when it
	// begins to wait and when that changes; never after Enter has returned.
	Waits func(what string)
	// Log gets what an operator should know; nil means that nothing is logged.
	Log *slog.Logger
}

// Terms is what all members of a cluster must have in common.
type Terms struct {
	ClusterName string
	Database    string
	VBuckets    int
	// VBucket is the name of the vBucket if there is only one; several have names of their own.
	// It is empty if it is not known, as of an older release.
	VBucket string
	// Version is the release of the program. Releases of one major version fit
	// each other; builds that are no release fit all.
	Version string
	// Format is the greatest log format that a node's release understands, or the
	// format of a cluster's log; 0 means 1.
	Format uint32
	// Timing is the timing that a node is configured with, as the current one, or that a
	// cluster's members may run with; zero if it is not known.
	Timing timing.Setting
}
