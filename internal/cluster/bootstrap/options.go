package bootstrap

import (
	"log/slog"
	"time"

	"github.com/dkvdb/dkv/internal/timing"
)

// Options is what a node is started with. Enter checks it.
type Options struct {
	// Dir is the folder of the identity file. It is made when missing.
	Dir string
	// Folders says where all of the node's data is, for an operator who has to move it
	// away; empty means that it is in Dir.
	Folders string
	// URL is the node's own Raft address; empty where Host is to pick it from
	// Peers.
	URL string
	// Listen is the host:port to wait on; empty means that of URL. It differs
	// where the address that others reach is not one of this machine's own.
	Listen string
	// Address is where the node serves gRPC, host:port.
	Address string
	// Peers are the Raft addresses of the first members, in any order. Empty
	// means a cluster of this node alone.
	Peers []string
	// Join waits to be added to a cluster that is there, unless the node
	// belongs to one already.
	Join bool
	// Terms is what all members must have in common.
	Terms Terms
	// TLS guards the port; nil leaves it open.
	TLS *TLS
	// Host tells which addresses are this machine's own; only used where URL
	// is empty.
	Host Host
	// RaftData tells whether the folder of the Raft log holds anything.
	RaftData func() (bool, error)
	// StateThere tells that a vBucket's folder holds a state.
	StateThere bool
	// Wall returns the machine's time; nil means time.Now.
	Wall func() time.Time
	// Waits, if there is one, is told what the node waits for, a sentence, when it begins
	// to and when that changes; not any more when Enter has returned.
	Waits func(what string)
	// Log takes what an operator should know; nil means nothing is logged.
	Log *slog.Logger
}

// Terms is what all members of a cluster must have in common.
type Terms struct {
	ClusterName string
	Database    string
	VBuckets    int
	// Version is the release of the program. Releases of one major version fit
	// each other; builds that are no release fit all.
	Version string
	// Format is, of a node, the greatest format of the log that its release
	// understands, and of a cluster the one that its log has; 0 means 1.
	Format uint32
	// Timing is, of a node, what it is configured with, as the current one, and of a
	// cluster what its members may run with; zero where that is not known.
	Timing timing.Setting
}
