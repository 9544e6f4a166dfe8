package config

import "crypto/tls"

// Role is the part a node plays.
type Role string

// The roles. In configuration "standalone" means RoleNone.
const (
	RoleNone      Role = "none"
	RoleMaster    Role = "master"
	RoleSlave     Role = "slave"
	RoleDiscovery Role = "discovery"
)

// Engine is a storage engine.
type Engine string

// The engines.
const (
	RocksDB Engine = "rocksdb"
	Badger  Engine = "badger"
)

// Exposure is what a node without authentication accepts from other hosts.
type Exposure string

// A node accepts nothing, all but administrative calls, or everything.
const (
	ExposeNothing Exposure = "false"
	ExposeData    Exposure = "data"
	ExposeAll     Exposure = "true"
)

// ReplicationMode is how changes reach a slave.
type ReplicationMode string

// A slave polls for changes, or receives them as a stream.
const (
	ReplicationPoll   ReplicationMode = "poll"
	ReplicationStream ReplicationMode = "stream"
)

// ReplicationCompress is which masters compress what they send to a slave.
type ReplicationCompress string

// Those of other data centres compress it, all, or none.
const (
	CompressAcross ReplicationCompress = "across"
	CompressAlways ReplicationCompress = "always"
	CompressNever  ReplicationCompress = "never"
)

// ReplicationAck is what a master's write waits for, beyond its own log.
type ReplicationAck string

// A write waits for no slave, for one that has received it, for one that has it on disk, or
// also for every other node to have applied it.
const (
	AckAsync    ReplicationAck = "async"
	AckSemiSync ReplicationAck = "semi_sync"
	AckSync     ReplicationAck = "sync"
	AckAll      ReplicationAck = "all"
)

// AckFallback is what happens to writes if no slave stands by.
type AckFallback string

// Writes are rejected, or acknowledged without a slave.
const (
	FallbackRefuse AckFallback = "refuse"
	FallbackAsync  AckFallback = "async"
)

// LinearizableOnSlave is what a slave does with a linearizable read.
type LinearizableOnSlave string

// A linearizable read is forwarded to the leader, or rejected.
const (
	LinearizableForward LinearizableOnSlave = "forward"
	LinearizableReject  LinearizableOnSlave = "reject"
)

// RaftProfile is a preset of Raft timing.
type RaftProfile string

// Members are in one building, or in several regions.
const (
	RaftLAN RaftProfile = "lan"
	RaftWAN RaftProfile = "wan"
)

// EntryStore is where the Raft log is kept.
type EntryStore string

// EntriesOnDisk is the only store that is accepted: see Config.Validate.
const (
	EntriesOnDisk   EntryStore = "disk"
	EntriesInMemory EntryStore = "memory"
)

// LogFormat is the form of log lines.
type LogFormat string

// Lines of key=value for people, or one JSON object a line.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// TLSMode is whether connections use TLS.
type TLSMode string

// The modes, in the order in which a running cluster goes through them.
const (
	TLSOff        TLSMode = "off"
	TLSPermissive TLSMode = "permissive"
	TLSRequired   TLSMode = "required"
)

// TLSVersion is a version of TLS, as crypto/tls numbers it.
type TLSVersion uint16

// The versions that may be set as the oldest accepted one.
const (
	TLS12 TLSVersion = tls.VersionTLS12
	TLS13 TLSVersion = tls.VersionTLS13
)
