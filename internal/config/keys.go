package config

import (
	"math"
	"time"
)

// Bounds that several keys share.
const (
	maxCount       = math.MaxInt32
	maxMessageSize = 2*GiB - 1 // a gRPC message's length is an int32
	anySize        = Size(math.MaxInt64)
	shortest       = time.Millisecond
)

// allGroups is every key, grouped by concern.
func allGroups() []group {
	return []group{
		{"Node", nodeKeys()},
		{"Network", networkKeys()},
		{"Storage", storageKeys()},
		{"Limits", limitKeys()},
		{"Change log", changelogKeys()},
		{"Replication", replicationKeys()},
		{"Discovery", discoveryKeys()},
		{"Raft cluster", nexusKeys()},
		{"Raft timing", raftKeys()},
		{"Security", securityKeys()},
		{"Logs", logKeys()},
		{"Operation", opsKeys()},
	}
}

func nodeKeys() []key {
	return []key{
		{name: "role", def: "none", field: func(c *Config) value { return roleValue(&c.Role) },
			doc: "part that this node plays; none, or standalone, works alone"},
		{name: "node-name", derived: "the name kept in root-folder, else the host's name", field: func(c *Config) value { return nameValue{&c.Node.Name, true} },
			doc: "name of this node, shown everywhere; part of db-folder where that is derived"},
		{name: "dc-id", def: "default", field: func(c *Config) value { return nameValue{&c.Node.DCID, false} },
			doc: "data centre or availability zone; slaves prefer masters of their own"},
		{name: "database", def: "default", field: func(c *Config) value { return nameValue{&c.Node.Database, false} },
			doc: "database that this node serves"},
		{name: "vbucket", def: "default", field: func(c *Config) value { return nameValue{&c.Node.VBucket, false} },
			doc: "name of the vBucket where the database has only one"},
		{name: "vbuckets", def: "1", field: func(c *Config) value { return intValue{&c.Node.VBuckets, 1, 1024} },
			doc: "vBuckets the database is cut into: a power of two up to 1024, fixed when it is created"},
	}
}

func networkKeys() []key {
	return []key{
		{name: "listen-addr", def: "0.0.0.0:8080",
			field: func(c *Config) value { return addrValue{p: &c.Network.ListenAddr, listen: true} },
			doc:   "gRPC address; port 0 takes a free one"},
		{name: "advertise-addr", derived: "listen-addr",
			field: func(c *Config) value { return addrValue{p: &c.Network.AdvertiseAddr, listen: true, optional: true} },
			doc:   "gRPC address that other nodes and clients are told"},
		{name: "http-listen-addr", def: "0.0.0.0:8081", traits: clashes,
			field: func(c *Config) value { return addrValue{p: &c.Network.HTTPListenAddr, listen: true} },
			doc:   "HTTP address for health, metrics and administration; a taken port is an error when it is set here"},
		{name: "allow-insecure", def: "false", field: func(c *Config) value { return boolValue{&c.Network.AllowInsecure} },
			doc: "take administrative calls of other hosts than this one and the cluster's members, without authentication"},
	}
}

func storageKeys() []key {
	return []key{
		{name: "root-folder", def: "./data", traits: clashes,
			field: func(c *Config) value { return pathValue{p: &c.Storage.RootFolder, required: true} },
			doc:   "parent of db-folder where that is derived"},
		{name: "db-folder", derived: "root-folder/node-name",
			field: func(c *Config) value { return pathValue{p: &c.Storage.DBFolder} },
			doc:   "folder of everything this node keeps; one process at a time"},
		{name: "db-engine", def: "rocksdb", field: func(c *Config) value { return enum(&c.Storage.Engine, RocksDB, Badger) },
			doc: "storage engine; masters need rocksdb"},
		{name: "diskless", def: "false", field: func(c *Config) value { return boolValue{&c.Storage.Diskless} },
			doc: "keep all data in memory; needs badger and a slave or a standalone node"},
		{name: "db-engine-ini", def: "", field: func(c *Config) value { return pathValue{p: &c.Storage.EngineINI} },
			doc: "file of raw engine options, which win over the keys here; none when empty"},
		{name: "block-cache-size", derived: "a quarter of memory, at most 3GiB",
			field: func(c *Config) value { return sizeValue{&c.Storage.BlockCacheSize, 0, anySize} },
			doc:   "memory for data blocks, shared by all vBuckets (badger: in equal parts); 0 disables the cache"},
		{name: "write-buffer-size", def: "64MiB",
			field: func(c *Config) value { return sizeValue{&c.Storage.WriteBufferSize, MiB, 64 * GiB} },
			doc:   "memory for writes not yet flushed, shared by all vBuckets; more means fewer, larger flushes"},
		{name: "disk-reserve", derived: "5 % of the file system, at most 1GiB",
			field: func(c *Config) value { return sizeValue{&c.Storage.DiskReserve, 0, anySize} },
			doc:   "free disk space below which writes are refused"},
		{name: "backup-dir", derived: "db-folder/backups",
			field: func(c *Config) value { return pathValue{p: &c.Storage.BackupDir} },
			doc:   "the only folder that backups are written to and restored from"},
	}
}

func limitKeys() []key {
	return []key{
		{name: "max-key-size", def: "1KiB", field: func(c *Config) value { return sizeValue{&c.Limits.KeySize, 1, MiB} },
			doc: "longest key"},
		{name: "max-value-size", def: "4MiB", field: func(c *Config) value { return sizeValue{&c.Limits.ValueSize, 1, GiB} },
			doc: "largest value"},
		{name: "max-batch-size", def: "8MiB", field: func(c *Config) value { return sizeValue{&c.Limits.BatchSize, 1, GiB} },
			doc: "most bytes of keys and values in one request"},
		{name: "max-message-size", def: "16MiB",
			field: func(c *Config) value { return sizeValue{&c.Limits.MessageSize, KiB, maxMessageSize} },
			doc:   "largest gRPC message, in either direction"},
		{name: "max-requests-in-flight", def: "10000",
			field: func(c *Config) value { return intValue{&c.Limits.RequestsInFlight, 1, maxCount} },
			doc:   "requests worked on at once; more are refused"},
		{name: "max-memory-in-flight", def: "512MiB",
			field: func(c *Config) value { return sizeValue{&c.Limits.MemoryInFlight, MiB, anySize} },
			doc:   "memory for messages on their way, and as much for what requests such as MultiGet may find; more are refused"},
		{name: "max-streams", def: "1024", field: func(c *Config) value { return intValue{&c.Limits.Streams, 1, maxCount} },
			doc: "long-lived streams served at once; more are refused"},
		{name: "stream-stall-timeout", def: "1m",
			field: func(c *Config) value { return durationValue{&c.Limits.StreamStall, shortest} },
			doc:   "a stream whose reader takes nothing for so long is ended, with a token to resume it by"},
		{name: "max-connections", derived: "the limit of open files, at most 4096",
			field: func(c *Config) value { return intValue{&c.Limits.Connections, 1, maxCount} },
			doc:   "gRPC connections open at once; idle ones make room for new ones, more are refused"},
		{name: "max-connections-per-host", derived: "three quarters of max-connections",
			field: func(c *Config) value { return intValue{&c.Limits.ConnectionsPerHost, 1, maxCount} },
			doc:   "gRPC connections of one client host; raise it if all clients come through one proxy"},
	}
}

func changelogKeys() []key {
	return []key{
		{name: "changelog-max-bytes", derived: "1GiB, or 64MiB of memory if diskless",
			field: func(c *Config) value { return sizeValue{&c.Changelog.MaxBytes, 0, anySize} },
			doc:   "size of the history kept for slaves and watchers; 0 is no bound"},
		{name: "changelog-max-age", def: "24h", field: func(c *Config) value { return durationValue{&c.Changelog.MaxAge, 0} },
			doc: "age of that history, whichever bound is met first; 0 is no bound"},
	}
}

func replicationKeys() []key {
	slave, master := []Role{RoleSlave}, []Role{RoleMaster}
	return []key{
		{name: "repl-master-addr", def: "", roles: slave,
			field: func(c *Config) value { return addrListValue{p: &c.Replication.MasterAddrs, optional: true} },
			doc:   "a slave's fixed masters, a,b,c, asked in turn; found through discovery when empty"},
		{name: "repl-poll-interval", def: "5s", roles: slave,
			field: func(c *Config) value { return durationValue{&c.Replication.PollInterval, shortest} },
			doc:   "time between questions for changes while there are none"},
		{name: "repl-mode", def: "poll", roles: slave,
			field: func(c *Config) value {
				return enum(&c.Replication.Mode, ReplicationPoll, ReplicationStream)
			},
			doc: "how changes reach a slave; stream brings the lag to milliseconds"},
		{name: "repl-ack", def: "async", traits: unbuilt, roles: master,
			field: func(c *Config) value { return enum(&c.Replication.Ack, AckAsync, AckSemiSync, AckSync) },
			doc:   "a write waits for no slave, for one that received it, or for one that persisted it"},
		{name: "auto-promote-after", def: "0s", traits: unbuilt, roles: slave,
			field: func(c *Config) value { return durationValue{&c.Replication.AutoPromoteAfter, 0} },
			doc:   "a standby takes over from a master lost for so long; 0 is never"},
		{name: "slave-linearizable", def: "forward", roles: slave,
			field: func(c *Config) value {
				return enum(&c.Replication.SlaveLinearizable, LinearizableForward, LinearizableReject)
			},
			doc: "what a slave does with a linearizable read: pass it to the leader, or refuse it"},
		{name: "max-active-lag", def: "100000", roles: slave,
			field: func(c *Config) value { return intValue{&c.Replication.MaxActiveLag, 0, maxCount} },
			doc:   "changes that a slave may be behind and still be healthy"},
	}
}

func discoveryKeys() []key {
	server, clients := []Role{RoleDiscovery}, []Role{RoleMaster, RoleSlave}
	return []key{
		{name: "disable-discovery-client", def: "false", roles: clients,
			field: func(c *Config) value { return boolValue{&c.Discovery.Disabled} },
			doc:   "neither announce this node nor look others up"},
		{name: "discovery-service.server.status-ttl", def: "5m", roles: server,
			field: func(c *Config) value { return durationValue{&c.Discovery.Server.StatusTTL, shortest} },
			doc:   "a node's row is purged so long after its last heartbeat"},
		{name: "discovery-service.server.heartbeat-timeout", def: "1m", roles: server,
			field: func(c *Config) value { return durationValue{&c.Discovery.Server.HeartbeatTimeout, shortest} },
			doc:   "a node is no longer shown so long after its last heartbeat"},
		{name: "discovery-service.server.max-rows", def: "200000", roles: server,
			field: func(c *Config) value { return intValue{&c.Discovery.Server.MaxRows, 1, maxCount} },
			doc:   "rows of all databases that are registered at most, one for each node and vBucket"},
		{name: "discovery-service.server.max-nodes", def: "512", roles: server,
			field: func(c *Config) value { return intValue{&c.Discovery.Server.MaxNodes, 1, maxCount} },
			doc:   "nodes of one vBucket that are registered at most, a quarter of them masters only"},
		{name: "discovery-service.client.discovery-service-addr", def: "multi:///127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003", roles: clients,
			field: func(c *Config) value { return addrListValue{p: &c.Discovery.Client.Addrs} },
			doc:   "the registry's nodes: multi:///a,b,c or a,b,c"},
		{name: "discovery-service.client.push-status-interval", def: "1s", roles: clients,
			field: func(c *Config) value { return durationValue{&c.Discovery.Client.PushStatusInterval, shortest} },
			doc:   "time between two heartbeats"},
		{name: "discovery-service.client.poll-cluster-info-interval", def: "1s", roles: clients,
			field: func(c *Config) value { return durationValue{&c.Discovery.Client.PollClusterInfoInterval, shortest} },
			doc:   "time between two look-ups"},
	}
}
