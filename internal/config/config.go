// Package config is dkvsrv's configuration: one tree of typed values, filled
// from (weakest first) built-in defaults, a YAML file, DKV_ environment
// variables and command-line flags.
//
// Every key is described once, in the tables of keys*.go. Flags, environment
// names, YAML paths, --help, --print-config and the shipped dkvsrv.yaml are all
// derived from there. Nothing that a user wrote is ignored silently: an unknown
// key is an error, and a key without effect causes a warning.
package config

import (
	"log/slog"
	"net"
	"strconv"
	"time"
)

// Config is the whole configuration. The fields of a Config from Load hold the
// values in effect, those of derived keys included.
type Config struct {
	// Role is the part that this node plays.
	Role Role
	// Preset is the size of host that sizes are derived for if they are not set: see
	// sizing.
	Preset Preset
	// Node holds the names of the node and of its data.
	Node Node
	// Network holds the addresses of the node.
	Network Network
	// Storage holds the folders, the engine and its memory.
	Storage Storage
	// Limits bound what clients can use of the node.
	Limits Limits
	// Changelog bounds the history of changes kept for slaves and watchers.
	Changelog Changelog
	// Discovery holds the keys of the registry and of its clients.
	Discovery Discovery
	// Replication holds the keys of slaves.
	Replication Replication
	// Nexus is the Raft cluster of the masters.
	Nexus Nexus
	// Raft is the timing of that cluster.
	Raft Raft
	// Security holds the names of files with certificates and secrets.
	Security Security
	// Log holds the keys of the logs.
	Log Log
	// Ops holds the other keys of operation.
	Ops Ops

	origins map[string]Origin // by key; a key left at its default has none
	file    string            // the file that was read, or ""
	// configured is the role that was configured, if Role is what the node has become.
	configured Role
	notices    []string // warnings from loading
	// fileSystem is the size of the file system of db-folder; 0 is unknown.
	fileSystem Size
}

// Node identifies a node and the data it serves.
type Node struct {
	// Name identifies the node in logs, metrics and the registry; derived from the
	// host's name. It becomes part of db-folder, so it is one path element.
	Name string
	// DCID is the data centre or availability zone: slaves and clients prefer nodes
	// in their own.
	DCID string
	// Database is the database that this node serves.
	Database string
	// VBucket names the vBucket of a database that has only one.
	VBucket string
	// VBuckets is the number of vBuckets of the database, a power of two up to
	// 1024, fixed when the database is created. More of them spread writes over
	// more logs and leaders; each costs memory and files.
	VBuckets int
}

// Network holds addresses, all host:port.
type Network struct {
	// ListenAddr is the address of the gRPC server. Port 0 means a free port.
	ListenAddr string
	// AdvertiseAddr is the gRPC address that other nodes and clients are given;
	// derived from ListenAddr. See Config.Advertise for port 0.
	AdvertiseAddr string
	// HTTPListenAddr is the address of the ops HTTP server. If its port is taken,
	// that is an error for a value that the user set; the default moves to a free
	// port.
	HTTPListenAddr string
	// AllowInsecure is what other hosts than this machine and the cluster's members may do
	// without authentication: open the node only on a network that keeps others out.
	AllowInsecure Exposure
	// Reflection describes the gRPC services to tools.
	Reflection bool
}

// Storage holds the folders, the engine and its memory.
type Storage struct {
	// RootFolder is the parent of DBFolder if that is derived.
	RootFolder string
	// DBFolder holds everything that this node stores, for one process at a time.
	DBFolder string
	// Engine is the storage engine; a folder records which one created it.
	Engine Engine
	// Diskless keeps everything in memory (Badger, standalone or slave only).
	Diskless bool
	// EngineINI is a file of raw engine options, "" for none. They override the
	// keys here, without any check.
	EngineINI string
	// EncryptionKeyFile holds the master key that encrypts what is stored, "" for data in
	// the clear (Badger only). PreviousKeyFile holds the key that it replaces.
	EncryptionKeyFile, PreviousKeyFile string
	// EncryptionRotation is the age at which the keys that data is encrypted with are
	// replaced for new data. Lower it to encrypt less with one key.
	EncryptionRotation time.Duration
	// BlockCacheSize is the memory for uncompressed data blocks, shared by all
	// vBuckets; 0 disables the cache; derived from the machine's memory. Raise it
	// if reads go to the disk and memory is free.
	BlockCacheSize Size
	// RowCacheSize is the part of BlockCacheSize that keeps whole pairs; 0
	// keeps none; derived: an eighth of it. Raise it if few keys are read much more often than
	// others.
	RowCacheSize Size
	// WriteBufferSize is the memory for writes that are not in a table file yet,
	// shared by all vBuckets. Raise it for fewer and larger flushes; lower it for
	// faster recovery and less memory.
	WriteBufferSize Size
	// DiskReserve is the free space below which writes are rejected; see
	// ReserveOf for 0. Raise it if compactions, backups or other programs need
	// more.
	DiskReserve Size
	// noReserve says that DiskReserve was set to 0.
	noReserve bool
	// BackupDir is the only folder that backups are written to and restored from;
	// derived: "backups" in DBFolder.
	BackupDir string
}

// maxDerivedReserve bounds the reserve that is derived from a file system's size:
// engines need room for a compaction, which does not grow with the disk.
const maxDerivedReserve = GiB

// ReserveOf returns the disk reserve on a file system of the given size in
// bytes: DiskReserve if it is set, also to 0, and otherwise 5 % of the file system, at most
// 1 GiB.
func (s *Storage) ReserveOf(fileSystem Size) Size {
	if s.DiskReserve > 0 || s.noReserve {
		return s.DiskReserve
	}
	return min(fileSystem/20, maxDerivedReserve)
}

// Limits bound what clients can use of the node.
type Limits struct {
	// KeySize is the longest key.
	KeySize Size
	// ValueSize is the largest value.
	ValueSize Size
	// BatchSize is the most bytes of keys and values in one request.
	BatchSize Size
	// MessageSize is the largest gRPC message, in either direction.
	MessageSize Size
	// RequestsInFlight is the most requests in progress at a time; further ones are
	// rejected with ResourceExhausted. Lower it if requests queue for too long.
	RequestsInFlight int
	// MemoryInFlight bounds the memory of messages in transit: requests from their
	// first byte until they are done, and responses until they have been sent. A
	// second bound of the same size is for the results of requests such as
	// MultiGet. Raise it if many large requests come at once and memory is free.
	MemoryInFlight Size
	// Streams is the most long-lived streams (watch, changes) at a time.
	Streams int
	// StreamStall is how long a stream may wait for its reader before it is ended.
	// Raise it for readers that pause during an iteration; lower it to free storage
	// sooner, since a stream keeps the overwritten data that it may still read.
	StreamStall time.Duration
	// Connections and ConnectionsPerHost bound the open gRPC connections, in total
	// and from one client host; see connectionsFor. Raise them together with the
	// process's limit of open files.
	Connections, ConnectionsPerHost int
}

// Changelog bounds the change records that are kept, by whichever limit is reached
// first. A slave or watcher that was away for longer than they reach back starts over
// from a snapshot: raise the limits if that happens often.
type Changelog struct {
	// MaxBytes bounds their size; 0 means no limit.
	MaxBytes Size
	// MaxAge bounds their age; 0 means no limit.
	MaxAge time.Duration
}

// Discovery holds the keys of the registry and of its clients.
type Discovery struct {
	// Disabled keeps a node from announcing itself and from looking others up.
	Disabled bool
	// Server holds the keys of a node of role discovery.
	Server DiscoveryServer
	// Client holds the keys of every other node.
	Client DiscoveryClient
}

// DiscoveryServer bounds how long and how many rows the registry keeps.
type DiscoveryServer struct {
	// StatusTTL is how long after its last heartbeat a node's row is removed.
	StatusTTL time.Duration
	// HeartbeatTimeout is how long after its last heartbeat a node is no longer
	// shown. Lower it to notice lost nodes sooner; raise it if pauses make live
	// nodes disappear.
	HeartbeatTimeout time.Duration
	// MaxRows bounds the rows of all databases, MaxNodes the nodes of one
	// vBucket. A row takes up to a kibibyte of memory. Raise them with the size of
	// the fleet.
	MaxRows, MaxNodes int
}

// DiscoveryClient holds the registry's addresses and how often a node uses it.
type DiscoveryClient struct {
	// Addrs are the registry's nodes, host:port each.
	Addrs []string
	// PushStatusInterval is the time between two heartbeats. Keep it well below the
	// registry's HeartbeatTimeout.
	PushStatusInterval time.Duration
	// PollClusterInfoInterval is the time between two lookups in a registry that
	// cannot stream its changes.
	PollClusterInfoInterval time.Duration
}

// ReplicationPrefer says which nodes a slave follows.
type ReplicationPrefer string

const (
	// PreferMaster follows masters only.
	PreferMaster ReplicationPrefer = "master"
	// PreferChain follows a slave of the own data centre rather than a master elsewhere.
	PreferChain ReplicationPrefer = "chain"
)

// Replication holds how a slave follows a master, and what a master waits for.
type Replication struct {
	// MasterAddrs are a slave's fixed masters, tried in turn; if there are none, it
	// finds them through discovery.
	MasterAddrs []string
	// TokenFile is the file of the token that a slave shows to masters and to the registry;
	// "" if its certificate is enough.
	TokenFile string
	// PollInterval is how often a slave that is up to date asks for new changes.
	// Lower it for less lag, raise it for less load on masters.
	PollInterval time.Duration
	// Mode is how changes reach the slave; a stream brings them within
	// milliseconds.
	Mode ReplicationMode
	// Compress says which nodes a slave asks to compress what they send.
	Compress ReplicationCompress
	// Prefer says which nodes a slave follows if its data centre has no master.
	Prefer ReplicationPrefer
	// Ack is what a master's write waits for, beyond its own log.
	Ack ReplicationAck
	// AckFrom says which slaves may stand by; see AckDC.
	AckFrom string
	// AckTimeout is how long a slave that stands by may confirm nothing while a write waits
	// for it.
	AckTimeout time.Duration
	// AckFallback is what happens to writes if no slave stands by.
	AckFallback AckFallback
	// AutoPromoteAfter is how long after the last sign of its master a standby becomes the
	// master by itself; 0 means never.
	AutoPromoteAfter time.Duration
	// SlaveLinearizable is what a slave does with a linearizable read.
	SlaveLinearizable LinearizableOnSlave
	// AutoRejoin makes a master that a promotion has replaced a slave of the new masters,
	// without an operator.
	AutoRejoin bool
	// MaxActiveLag is how many changes a slave may lag and still count as healthy.
	// Raise it if slaves turn unhealthy under bursts of writes.
	MaxActiveLag int
}

// Nexus is the Raft cluster of the masters (and of the registry's nodes).
type Nexus struct {
	// ClusterName must be the same on all members. It keeps clusters apart that
	// share a network.
	ClusterName string
	// NodeURL is this member's Raft address, http://host:port.
	NodeURL string
	// ClusterURLs are the Raft addresses of the first members.
	ClusterURLs []string
	// Join makes an empty node wait until it is added to a cluster.
	Join bool
	// LogDir is the folder of the Raft log; derived: below db-folder. SnapDir and
	// EntryDir are accepted from old files and have no effect.
	LogDir, SnapDir, EntryDir string
	// EntryStore is where the Raft log is kept; only a log on disk survives a
	// crash.
	EntryStore EntryStore
	// ReplTimeout is how long a proposal may take. Raise it for slow disks or
	// networks.
	ReplTimeout time.Duration
	// LeaseBasedReads lets the leader answer linearizable reads alone while its
	// lease lasts; without it each read asks a quorum. Turn it off if virtual
	// machines may be paused for more than a second.
	LeaseBasedReads bool
	// SnapshotCount is the number of entries between two snapshots. Lower it for a
	// smaller log and faster restarts, raise it for fewer flushes.
	SnapshotCount int
	// SnapshotInterval is the time between two snapshots, if something was written; 0 leaves
	// it to SnapshotCount alone.
	SnapshotInterval time.Duration
	// SnapshotCatchupEntries is how many entries are kept behind a snapshot. Raise
	// it if members that were briefly away have to receive a snapshot.
	SnapshotCatchupEntries int
	// MaxSnapshots and MaxWALs are accepted from old files and have no effect.
	MaxSnapshots, MaxWALs int
}

// Raft is the timing of the cluster. Shorter times detect a lost leader sooner, but
// are more likely to take a slow network or disk for one. All fields but Profile are
// derived from it if they are not set.
type Raft struct {
	// Profile is the preset of the other fields.
	Profile RaftProfile
	// RTT is the unit of the next two: about a round trip between members.
	RTT time.Duration
	// ElectionRTT is the number of RTT without a leader after which an election
	// starts.
	ElectionRTT int
	// HeartbeatRTT is the number of RTT between two heartbeats of a leader.
	HeartbeatRTT int
	// LeaseDuration is how long a confirmed leader answers reads alone. A new
	// leader waits for it to end, so longer leases mean slower failover.
	LeaseDuration time.Duration
}

// ElectionTimeout returns how long followers wait for a lost leader.
func (r *Raft) ElectionTimeout() time.Duration { return r.RTT * time.Duration(r.ElectionRTT) }

// Security names files with certificates and secrets.
type Security struct {
	// TLSMode is whether connections use TLS: of the gRPC, the HTTP and the Raft port, and
	// those to other nodes.
	TLSMode TLSMode
	// TLSCertFile, TLSKeyFile and TLSCAFile are PEM files.
	TLSCertFile, TLSKeyFile, TLSCAFile string
	// TLSMinVersion is the oldest TLS version that is accepted.
	TLSMinVersion TLSVersion
	// TLSNodeName is the DNS name that the certificates of nodes carry, and no others.
	TLSNodeName string
	// AuthFile names the identities that may call the node, what shows them and what they
	// may do; "" means no authentication.
	AuthFile string
}

// Log holds the keys of the logs.
type Log struct {
	// Level is the least severe level that is logged. See LogLevel.
	Level slog.Level
	// Format is text for people or JSON for log collectors.
	Format LogFormat
	// Verbose is short for the debug level.
	Verbose bool
	// SlowThreshold is the duration from which a request is logged, with the time
	// spent in each phase; 0 logs none.
	SlowThreshold time.Duration
	// Access is the file of the access log, or CommonLog; "" means none.
	Access string
	// AccessSize is the size at which a new access file is begun, 0 for none, and
	// AccessFiles how many earlier ones are kept. Raise them to look back further.
	AccessSize  Size
	AccessFiles int
	// Audit is the file of the audit log; "" writes its lines to the common log.
	Audit string
	// AuditSize is the size at which a new audit file is begun, 0 for none, and AuditFiles
	// how many earlier ones are kept. Raise them to look back further.
	AuditSize  Size
	AuditFiles int
	// AuditRequired rejects administrative calls that cannot be logged. Set it if a call
	// that no one can trace is worse than one that fails.
	AuditRequired bool
}

// CommonLog is the value of access-log that writes its lines to the common log.
const CommonLog = "log"

// Ops holds the other keys of operation.
type Ops struct {
	// Pprof serves run-time profiles under /debug/pprof.
	Pprof bool
	// StatsdAddr is a statsd server, host:port, for metrics; "" for none.
	StatsdAddr string
	// TraceEndpoint is where spans of requests are sent by OTLP, host:port, or
	// https://host:port for TLS, with or without a path; "" for nowhere.
	TraceEndpoint string
	// TraceSample is the share of requests that is traced, of those whose callers do not
	// decide it. Raise it to see more of them, lower it if the collector gets too many.
	TraceSample float64
	// MaxClockJump is how far this node's time may be from that of a majority of the
	// members' clocks, and the largest step of the wall clock that a node alone
	// follows at once. Raise it if clocks are known to differ more, lower it if keys
	// must expire more exactly.
	MaxClockJump time.Duration
	// DrainTimeout is how long a stopping node waits for running requests.
	DrainTimeout time.Duration
	// AllowDrills lets administrators give this node faults, for a time.
	AllowDrills bool
}

// InRaft reports whether the node's log is replicated by Raft, alone or with others: a
// master's always is, that of a registry node if its configuration names others.
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

// WithRole returns a copy of the configuration for a node that has become something else
// than it is configured to be.
func (c *Config) WithRole(r Role) *Config {
	out := *c
	if out.Role = r; out.configured == "" {
		out.configured = c.Role
	}
	return &out
}

// At returns a copy of the configuration that listens at the addresses that are bound: a
// node that is opened again keeps a port that it was free to choose.
func (c *Config) At(grpc, http net.Addr) *Config {
	out := *c
	out.Network.ListenAddr = withPort(c.Network.ListenAddr, grpc)
	out.Network.HTTPListenAddr = withPort(c.Network.HTTPListenAddr, http)
	return &out
}

// withPort returns an address with the port that is bound.
func withPort(address string, bound net.Addr) string {
	host, _, err := net.SplitHostPort(address)
	tcp, is := bound.(*net.TCPAddr)
	if err != nil || !is {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

// ConfiguredRole is the role that the operator has configured, which is not Role if a
// promotion has changed that.
func (c *Config) ConfiguredRole() Role {
	if c.configured != "" {
		return c.configured
	}
	return c.Role
}

// LogLevel returns the level to log at: Log.Level, or debug if Log.Verbose is set.
func (c *Config) LogLevel() slog.Level {
	if c.Log.Verbose {
		return min(c.Log.Level, slog.LevelDebug)
	}
	return c.Log.Level
}

// IsSet reports whether the user set the key (such as "http-listen-addr") in the
// file, the environment or a flag, even if to its default value.
func (c *Config) IsSet(key string) bool { return c.origins[key].Source.byUser() }

// Origin returns the source of the key's value.
func (c *Config) Origin(key string) Origin { return c.origins[key] }

// File returns the configuration file that was read; "" if there was none.
func (c *Config) File() string { return c.file }
