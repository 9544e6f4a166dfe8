// Package config is dkvsrv's configuration: one tree of typed values, filled
// from (weakest first) built-in defaults, a YAML file, DKV_ environment
// variables and command-line flags.
//
// Every key is described once, in the tables of keys*.go; flags, environment
// names, YAML paths, --help, --print-config and the tests that hold dkvsrv.yaml
// against the code all derive from there. Nothing that a user wrote is ignored
// in silence: what is unknown is an error, what has no effect is a notice.
package config

import (
	"log/slog"
	"time"
)

// Config is the whole tree. The fields of a Config that came from Load hold
// effective values: where the user left a derived key alone, the field holds
// what was derived.
type Config struct {
	// Role is the part this node plays.
	Role Role
	// Node says who this node is.
	Node Node
	// Network holds the addresses that the node listens on and is reached at.
	Network Network
	// Storage says where and how data is kept.
	Storage Storage
	// Limits bound what one client can ask for.
	Limits Limits
	// Changelog bounds the history of changes kept for slaves and watchers.
	Changelog Changelog
	// Discovery is the registry, from both of its sides.
	Discovery Discovery
	// Replication is how a slave follows a master.
	Replication Replication
	// Nexus is the Raft cluster of the masters.
	Nexus Nexus
	// Raft is the timing of that cluster.
	Raft Raft
	// Security holds files with certificates and secrets, never the secrets.
	Security Security
	// Log says what is logged and how.
	Log Log
	// Ops is everything else that an operator turns.
	Ops Ops

	origins map[string]Origin // by key; a key left at its default has none
	file    string            // the file that was read, or ""
	notices []string          // what loading found worth saying
	// fileSystem is the size of the one that db-folder is on; 0 is unknown.
	fileSystem Size
}

// Node identifies a node and the data it serves.
type Node struct {
	// Name is shown everywhere; derived from the host's name. It becomes part
	// of db-folder, so it is one path element.
	Name string
	// DCID is the data centre or availability zone: slaves prefer masters of
	// their own.
	DCID string
	// Database is the database that this node serves.
	Database string
	// VBucket names the vBucket of a database that has only one.
	VBucket string
	// VBuckets is the number of vBuckets that the database is cut into, a power
	// of two up to 1024, fixed when the database is created. More of them
	// spread writes over more logs and leaders; each costs memory and files.
	VBuckets int
}

// Network holds addresses, all host:port.
type Network struct {
	// ListenAddr is where gRPC is served. Port 0 takes a free one.
	ListenAddr string
	// AdvertiseAddr is what other nodes and clients are told; derived from
	// ListenAddr. See Config.Advertise for port 0.
	AdvertiseAddr string
	// HTTPListenAddr is where the ops HTTP server listens. Set explicitly, a
	// taken port is an error; as a default it gives way to a free port.
	HTTPListenAddr string
	// AllowInsecure takes administrative calls of any host, while there is no
	// authentication: set it only where a network keeps others out.
	AllowInsecure bool
}

// Storage says where and how data is kept.
type Storage struct {
	// RootFolder is the parent of DBFolder where that is derived.
	RootFolder string
	// DBFolder holds everything that this node keeps; one process at a time.
	DBFolder string
	// Engine is the storage engine; a folder remembers which one made it.
	Engine Engine
	// Diskless keeps everything in memory (Badger, standalone or slave only).
	Diskless bool
	// EngineINI is a file of raw engine options, "" for none. They win over
	// the keys here, and nothing checks that they make sense together.
	EngineINI string
	// BlockCacheSize is memory for uncompressed data blocks, shared by all
	// vBuckets; 0 disables the cache; derived from the machine's memory.
	BlockCacheSize Size
	// WriteBufferSize is memory for writes not yet in a table file, shared by
	// all vBuckets. More of it means fewer, larger flushes and a longer
	// recovery.
	WriteBufferSize Size
	// DiskReserve is the free space below which writes are refused; see
	// ReserveOf for 0.
	DiskReserve Size
	// BackupDir is the only directory that backups are written to and
	// restored from; derived: "backups" in DBFolder.
	BackupDir string
}

// maxDerivedReserve bounds the reserve that is derived from a file system's
// size: engines need room for a compaction, not for a share of a huge disk.
const maxDerivedReserve = GiB

// ReserveOf returns the disk reserve on a file system of the given size in
// bytes: DiskReserve where it is set, and otherwise 5 % of the file system, at
// most 1 GiB.
func (s *Storage) ReserveOf(fileSystem Size) Size {
	if s.DiskReserve > 0 {
		return s.DiskReserve
	}
	return min(fileSystem/20, maxDerivedReserve)
}

// Limits bound what one client can ask for.
type Limits struct {
	// KeySize is the longest key.
	KeySize Size
	// ValueSize is the largest value.
	ValueSize Size
	// BatchSize is the total of keys and values in one request.
	BatchSize Size
	// MessageSize is the largest gRPC message, in either direction.
	MessageSize Size
	// RequestsInFlight is how many requests a node works on at once; more are
	// refused with ResourceExhausted.
	RequestsInFlight int
	// MemoryInFlight bounds the memory of messages that are on their way: requests
	// from their first byte until they are done, responses until they have left.
	// It bounds as well, by itself, what requests such as MultiGet may find. Raise
	// it if many large requests come at once and memory is there.
	MemoryInFlight Size
	// Streams is how many long-lived streams (watch, changes) a node serves.
	Streams int
	// StreamStall is after how long a stream is ended whose reader takes nothing.
	// Raise it for readers that pause in the middle of an iteration: meanwhile a
	// stream keeps storage from freeing what was overwritten.
	StreamStall time.Duration
	// Connections and ConnectionsPerHost bound the gRPC connections, in all and
	// from one client host; see connectionsFor. Raise them together with the
	// process's limit of open files.
	Connections, ConnectionsPerHost int
}

// Changelog bounds the change records that are kept, by whichever bound is
// reached first.
type Changelog struct {
	// MaxBytes bounds their size; 0 is no bound.
	MaxBytes Size
	// MaxAge bounds their age; 0 is no bound. A slave that was away for longer
	// starts over from a snapshot.
	MaxAge time.Duration
}

// Discovery is the registry, from both of its sides.
type Discovery struct {
	// Disabled keeps a node from announcing itself and from asking.
	Disabled bool
	// Server holds the keys of a node of role discovery.
	Server DiscoveryServer
	// Client holds the keys of every other node.
	Client DiscoveryClient
}

// DiscoveryServer says how long the registry believes a node.
type DiscoveryServer struct {
	// StatusTTL is how long after its last heartbeat a node's row is purged.
	StatusTTL time.Duration
	// HeartbeatTimeout is how long after its last heartbeat a node is no
	// longer shown. Shorter notices a loss sooner and blames a pause sooner.
	HeartbeatTimeout time.Duration
	// MaxRows bounds the rows of all databases, MaxNodes the nodes of one
	// vBucket. A row takes up to a kibibyte of memory. Raise them with the size of
	// the fleet.
	MaxRows, MaxNodes int
}

// DiscoveryClient says whom to tell and ask, and how often.
type DiscoveryClient struct {
	// Addrs are the registry's nodes, host:port each.
	Addrs []string
	// PushStatusInterval is the time between two heartbeats.
	PushStatusInterval time.Duration
	// PollClusterInfoInterval is the time between two look-ups.
	PollClusterInfoInterval time.Duration
}

// Replication is how a slave follows a master, and what a master waits for.
type Replication struct {
	// MasterAddrs are a slave's fixed masters, asked in turn; none finds them
	// through discovery.
	MasterAddrs []string
	// PollInterval is how often a slave that has caught up asks for more.
	PollInterval time.Duration
	// Mode is how changes travel; a stream brings the lag to milliseconds.
	Mode ReplicationMode
	// Ack is what a master's write waits for, beyond its own log.
	Ack ReplicationAck
	// AutoPromoteAfter is how long a standby waits for its lost master before
	// it takes over by itself; 0 is never.
	AutoPromoteAfter time.Duration
	// SlaveLinearizable is what a slave does with a linearizable read.
	SlaveLinearizable LinearizableOnSlave
	// MaxActiveLag is how many changes a slave may be behind and still call
	// itself healthy.
	MaxActiveLag int
}

// Nexus is the Raft cluster of the masters (and of the registry's nodes).
type Nexus struct {
	// ClusterName must be the same on all members; it keeps clusters apart
	// that share a network.
	ClusterName string
	// NodeURL is this member's Raft address, http://host:port.
	NodeURL string
	// ClusterURLs are the Raft addresses of the first members.
	ClusterURLs []string
	// Join makes an empty node wait to be invited into a cluster.
	Join bool
	// LogDir, SnapDir and EntryDir hold the Raft log, snapshots and the
	// replicated entries; derived: below db-folder.
	LogDir, SnapDir, EntryDir string
	// EntryStore is where the Raft log is kept; only on disk does it survive
	// a crash.
	EntryStore EntryStore
	// ReplTimeout is how long a proposal may take.
	ReplTimeout time.Duration
	// LeaseBasedReads lets the leader answer linearizable reads without
	// asking the others while its lease lasts; without it each asks a quorum.
	LeaseBasedReads bool
	// SnapshotCount is the number of entries between two snapshots.
	SnapshotCount int
	// SnapshotCatchupEntries is how many entries are kept behind a snapshot,
	// so that a member shortly away does not need the snapshot.
	SnapshotCatchupEntries int
	// MaxSnapshots and MaxWALs are accepted for old files and have no effect.
	MaxSnapshots, MaxWALs int
}

// Raft is the timing of the cluster. Shorter times notice a lost leader
// sooner and take a slow network or disk for one sooner. All fields but
// Profile are derived from it where they are not set.
type Raft struct {
	// Profile is the preset that the other fields start from.
	Profile RaftProfile
	// RTT is the unit of the next two: about a round trip between members.
	RTT time.Duration
	// ElectionRTT is how many RTT without a leader start an election.
	ElectionRTT int
	// HeartbeatRTT is the number of RTT between two heartbeats of a leader.
	HeartbeatRTT int
	// LeaseDuration is how long a confirmed leader answers reads by itself. A
	// new leader waits it out, so longer leases mean longer failovers.
	LeaseDuration time.Duration
}

// ElectionTimeout is how long followers wait for a lost leader.
func (r *Raft) ElectionTimeout() time.Duration { return r.RTT * time.Duration(r.ElectionRTT) }

// Security names files with certificates and secrets.
type Security struct {
	// TLSCertFile, TLSKeyFile and TLSCAFile are PEM files.
	TLSCertFile, TLSKeyFile, TLSCAFile string
	// TLSMinVersion is the oldest TLS version that is spoken.
	TLSMinVersion TLSVersion
	// AuthTokenFile holds hashes of the tokens that may be used.
	AuthTokenFile string
}

// Log says what is logged and how.
type Log struct {
	// Level is the least severe level that is logged. See LogLevel.
	Level slog.Level
	// Format is text for people or JSON for collectors.
	Format LogFormat
	// Verbose is short for the debug level.
	Verbose bool
	// SlowThreshold is from which duration on a request is logged with where
	// its time went; 0 logs none.
	SlowThreshold time.Duration
	// Access is the file of the access log; "" is none.
	Access string
	// Audit is the file of the audit log of administrative calls; "" writes
	// them to the common log.
	Audit string
}

// Ops is everything else that an operator turns.
type Ops struct {
	// Pprof serves run-time profiles under /debug/pprof.
	Pprof bool
	// StatsdAddr is a statsd server for metrics, "" for none.
	StatsdAddr string
	// MaxClockJump is how far this node's time may be from what a majority of the
	// members' clocks say, and how large a step of the wall clock a node alone follows
	// at once. Raise it where clocks are known to be further apart than that, lower it
	// where keys must not expire so much early or late.
	MaxClockJump time.Duration
	// DrainTimeout is how long a stopping node lets running requests finish.
	DrainTimeout time.Duration
}

// InRaft tells whether the node keeps its log together with others, or may do so
// later: a master always, a node of the registry where it is told of others.
func (c *Config) InRaft() bool {
	switch c.Role {
	case RoleMaster:
		return true
	case RoleDiscovery:
		return c.Nexus.NodeURL != "" || len(c.Nexus.ClusterURLs) > 0 || c.Nexus.Join
	default:
		return false
	}
}

// LogLevel is the level to log at: Log.Level, or debug where Log.Verbose asks
// for more.
func (c *Config) LogLevel() slog.Level {
	if c.Log.Verbose {
		return min(c.Log.Level, slog.LevelDebug)
	}
	return c.Log.Level
}

// IsSet tells whether the user set the key (such as "http-listen-addr") in the
// file, the environment or a flag, be it to its default value.
func (c *Config) IsSet(key string) bool { return c.origins[key].Source.byUser() }

// Origin returns where the key's value comes from.
func (c *Config) Origin(key string) Origin { return c.origins[key] }

// File returns the configuration file that was read, "" if none.
func (c *Config) File() string { return c.file }
