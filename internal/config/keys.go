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

// allGroups returns all keys, grouped by concern.
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
			doc: "The part that this node plays. none, which may also be written standalone, is a node that works alone."},
		{name: "preset", def: "standard", field: func(c *Config) value { return enum(&c.Preset, PresetSmall, PresetStandard, PresetLarge) },
			doc: "The size of host that memory, connections and the change history are derived for, if their keys are not set. small takes up to 1GiB of memory; large takes half of a host's memory and more, flushes less often, and replays more after a crash. --print-config shows what it derives."},
		{name: "node-name", derived: "the name kept in root-folder, else the host's name", field: func(c *Config) value { return nameValue{&c.Node.Name, true} },
			doc: "The name of this node in logs, metrics and the registry, and part of db-folder if that is derived. Set it if several nodes share a root-folder."},
		{name: "dc-id", def: "default", field: func(c *Config) value { return nameValue{&c.Node.DCID, false} },
			doc: "The data centre or availability zone of this node. Slaves and clients prefer nodes in their own."},
		{name: "database", def: "default", field: func(c *Config) value { return nameValue{&c.Node.Database, false} },
			doc: "The database that this node serves. All nodes of a cluster have the same."},
		{name: "vbucket", def: "default", field: func(c *Config) value { return nameValue{&c.Node.VBucket, false} },
			doc: "The name of the vBucket if the database has only one."},
		{name: "vbuckets", def: "1", field: func(c *Config) value { return intValue{&c.Node.VBuckets, 1, 1024} },
			doc: "The number of vBuckets of the database, a power of two from 1 to 1024, fixed when the database is created. More of them spread writes over more logs and leaders; each costs memory and files."},
	}
}

func networkKeys() []key {
	return []key{
		{name: "listen-addr", def: "0.0.0.0:8080",
			field: func(c *Config) value { return addrValue{p: &c.Network.ListenAddr, listen: true} },
			doc:   "The address of the gRPC server. Port 0 means a free port."},
		{name: "advertise-addr", derived: "listen-addr",
			field: func(c *Config) value { return addrValue{p: &c.Network.AdvertiseAddr, listen: true, optional: true} },
			doc:   "The gRPC address that other nodes and clients are given. Set it if they cannot reach listen-addr, for example behind NAT."},
		{name: "http-listen-addr", def: "0.0.0.0:8081", traits: clashes,
			field: func(c *Config) value { return addrValue{p: &c.Network.HTTPListenAddr, listen: true} },
			doc:   "The HTTP address for health, metrics and administration. If the port is taken, a node with this key set does not start; with the default it uses a free port."},
		{name: "allow-insecure", def: "false", field: func(c *Config) value { return exposure(&c.Network.AllowInsecure) },
			doc: "What other hosts than this one and the cluster's members may do while there is no auth-file: nothing but health probes, all but administrative calls (data), or everything (true). Open a node only on a network that keeps others out."},
		{name: "grpc-reflection", def: "true", field: func(c *Config) value { return boolValue{&c.Network.Reflection} },
			doc: "Describe the gRPC services to tools such as grpcurl; without auth-file, to those on this host only."},
	}
}

func storageKeys() []key {
	return []key{
		{name: "root-folder", def: "./data", traits: clashes,
			field: func(c *Config) value { return pathValue{p: &c.Storage.RootFolder, required: true} },
			doc:   "The parent folder of db-folder if that is derived."},
		{name: "db-folder", derived: "root-folder/node-name",
			field: func(c *Config) value { return pathValue{p: &c.Storage.DBFolder} },
			doc:   "The folder of everything that this node stores. Only one process may use it at a time."},
		{name: "db-engine", def: "rocksdb", field: func(c *Config) value { return enum(&c.Storage.Engine, RocksDB, Badger) },
			doc: "The storage engine. Masters need rocksdb."},
		{name: "diskless", def: "false", field: func(c *Config) value { return boolValue{&c.Storage.Diskless} },
			doc: "Keep all data in memory, where it does not survive a restart. Needs db-engine badger, and a slave or a standalone node."},
		{name: "db-engine-ini", def: "", field: func(c *Config) value { return pathValue{p: &c.Storage.EngineINI} },
			doc: "A file of raw RocksDB options, which override the keys here without any check; none if empty."},
		{name: "encryption-key-file", def: "", traits: secret,
			field: func(c *Config) value { return secretFileValue{&c.Storage.EncryptionKeyFile} },
			doc:   "A file with the key that encrypts everything stored, of 16, 24 or 32 bytes, as they are, in hexadecimal or in base64. Needs db-engine badger and data that was encrypted from the start; none if empty."},
		{name: "encryption-previous-key-file", def: "", traits: secret,
			field: func(c *Config) value { return secretFileValue{&c.Storage.PreviousKeyFile} },
			doc:   "A file with the key that encryption-key-file replaces at this start, or that backups to be restored were made with. Remove it once no such data is left."},
		{name: "encryption-key-rotation", def: "240h",
			field: func(c *Config) value { return durationValue{&c.Storage.EncryptionRotation, time.Minute} },
			doc:   "How long data is encrypted with one data key, which is itself encrypted with the key of encryption-key-file. Lower it to encrypt less with one."},
		{name: "block-cache-size", derived: "preset; a quarter of memory, at most 3GiB (small: an eighth, at most 256MiB; large: half)",
			field: func(c *Config) value { return sizeValue{&c.Storage.BlockCacheSize, 0, anySize} },
			doc:   "Memory for data blocks that were read, shared by all vBuckets (with badger, in equal parts); 0 disables the cache. Raise it if reads go to the disk and memory is free."},
		{name: "row-cache-size", derived: "an eighth of block-cache-size, at most 1GiB",
			field: func(c *Config) value { return sizeValue{&c.Storage.RowCacheSize, 0, anySize} },
			doc:   "The part of block-cache-size that keeps whole pairs of keys and values that were read, so that they are found without a search; at least 1MiB, at most half of block-cache-size, or 0 for none. Raise it if few keys are read far more often than others."},
		{name: "write-buffer-size", derived: "preset; 64MiB (small: 16MiB, large: 256MiB)",
			field: func(c *Config) value { return sizeValue{&c.Storage.WriteBufferSize, MiB, 64 * GiB} },
			doc:   "Memory for writes that are not in a table file yet, shared by all vBuckets. Raise it for fewer and larger flushes, lower it for faster recovery and less memory."},
		{name: "disk-reserve", derived: "5 % of the file system, at most 1GiB",
			field: func(c *Config) value { return sizeValue{&c.Storage.DiskReserve, 0, anySize} },
			doc:   "The free disk space below which writes are rejected; 0 keeps nothing free. Raise it if compactions, backups or other programs need more."},
		{name: "backup-dir", derived: "db-folder/backups",
			field: func(c *Config) value { return pathValue{p: &c.Storage.BackupDir} },
			doc:   "The only folder that backups are written to and restored from."},
	}
}

func limitKeys() []key {
	return []key{
		{name: "max-key-size", def: "1KiB", field: func(c *Config) value { return sizeValue{&c.Limits.KeySize, 1, MiB} },
			doc: "The longest key that may be written. Longer ones that are there can be read and, up to 63KiB, deleted."},
		{name: "max-value-size", def: "4MiB", field: func(c *Config) value { return sizeValue{&c.Limits.ValueSize, 1, GiB} },
			doc: "The largest value that may be written. Raise it together with max-batch-size and max-message-size, up to what masters, or standalone nodes with badger, take."},
		{name: "max-batch-size", def: "8MiB", field: func(c *Config) value { return sizeValue{&c.Limits.BatchSize, 1, GiB} },
			doc: "The most bytes of keys and values in one request. Masters take less than 64MiB, and less than 32MiB on a host with fewer than 8 cores or less than 32GiB of memory. Standalone nodes with badger take less than 5.5MiB, and less than 40000 keys."},
		{name: "max-message-size", def: "16MiB",
			field: func(c *Config) value { return sizeValue{&c.Limits.MessageSize, KiB, maxMessageSize} },
			doc:   "The largest gRPC message, in either direction. It must have room for max-batch-size."},
		{name: "max-requests-in-flight", def: "10000",
			field: func(c *Config) value { return intValue{&c.Limits.RequestsInFlight, 1, maxCount} },
			doc:   "The most requests in progress at a time; further ones are rejected. Lower it if requests queue for too long under load."},
		{name: "max-memory-in-flight", derived: "preset; 512MiB (small: 128MiB, large: 2GiB)",
			field: func(c *Config) value { return sizeValue{&c.Limits.MemoryInFlight, MiB, anySize} },
			doc:   "Memory for messages being received or sent, and as much again for the results of requests such as MultiGet; requests beyond it are rejected. Raise it if many large requests come at once and memory is free."},
		{name: "max-streams", def: "1024", field: func(c *Config) value { return intValue{&c.Limits.Streams, 1, maxCount} },
			doc: "The most long-lived streams, such as watches, at a time; further ones are rejected."},
		{name: "stream-stall-timeout", def: "1m",
			field: func(c *Config) value { return durationValue{&c.Limits.StreamStall, shortest} },
			doc:   "How long a stream may wait for its reader before it is ended; the reader may resume it. Raise it for readers that pause during an iteration; lower it to free the storage that such streams hold sooner."},
		{name: "max-connections", derived: "the limit of open files, at most 4096 (preset small: 512, large: 16384)",
			field: func(c *Config) value { return intValue{&c.Limits.Connections, 1, maxCount} },
			doc:   "The most open gRPC connections. Idle ones are closed to make room for new ones, and further ones are rejected. Raise the limit of open files before you raise it."},
		{name: "max-connections-per-host", derived: "three quarters of max-connections",
			field: func(c *Config) value { return intValue{&c.Limits.ConnectionsPerHost, 1, maxCount} },
			doc:   "The most gRPC connections from one client host. Raise it if all clients come through one proxy."},
	}
}

func changelogKeys() []key {
	return []key{
		{name: "changelog-max-bytes", derived: "preset; 1GiB (small: 256MiB, large: 8GiB), or 64MiB of memory if diskless",
			field: func(c *Config) value { return sizeValue{&c.Changelog.MaxBytes, 0, anySize} },
			doc:   "The size of the change history for slaves and watchers; the oldest changes are removed first, and 0 means no limit. Raise it if slaves that were away must start from a snapshot."},
		{name: "changelog-max-age", def: "24h", field: func(c *Config) value { return durationValue{&c.Changelog.MaxAge, 0} },
			doc: "The age of the change history; older changes are removed even if changelog-max-bytes is not reached, and 0 means no limit. Raise it if slaves or watchers may be away for longer."},
	}
}

func replicationKeys() []key {
	slave, owners := []Role{RoleSlave}, []Role{RoleNone, RoleMaster, RoleSlave} // a slave may be promoted
	return []key{
		{name: "repl-master-addr", def: "", roles: slave,
			field: func(c *Config) value { return addrListValue{p: &c.Replication.MasterAddrs, optional: true} },
			doc:   "Fixed masters of a slave, a,b,c, tried in turn. If empty, the slave finds them through discovery."},
		{name: "repl-token-file", def: "", roles: slave,
			field: func(c *Config) value { return secretFileValue{&c.Replication.TokenFile} },
			doc:   "The file with the token that a slave shows to its masters and to the registry: one line, read again when it changes, and sent over TLS or to this machine only. Leave it empty if the slave has a node's certificate."},
		{name: "repl-poll-interval", def: "5s", roles: slave,
			field: func(c *Config) value { return durationValue{&c.Replication.PollInterval, shortest} },
			doc:   "How often a slave in repl-mode poll asks for new changes when there are none. Lower it for less lag, raise it for less load on masters. In both modes a slave that hears of no master for ten intervals is unhealthy."},
		{name: "repl-mode", def: "poll", roles: slave,
			field: func(c *Config) value {
				return enum(&c.Replication.Mode, ReplicationPoll, ReplicationStream)
			},
			doc: "How changes reach a slave: poll asks for them, stream receives them within milliseconds."},
		{name: "repl-compress", def: "across", roles: slave,
			field: func(c *Config) value {
				return enum(&c.Replication.Compress, CompressAcross, CompressAlways, CompressNever)
			},
			doc: "Which nodes are asked to compress changes and snapshots by zstd: across for those that discovery knows in another data centre (dc-id), always, or never. " +
				"Set always if the masters are far away and named by repl-master-addr. It takes processor time on both sides; masters of earlier releases do not compress."},
		{name: "repl-prefer", def: "master", roles: slave,
			field: func(c *Config) value {
				return enum(&c.Replication.Prefer, PreferMaster, PreferChain)
			},
			doc: "Which nodes a slave follows if its own data centre (dc-id) has no master: master for those elsewhere, chain for another slave of the data centre, if discovery knows one that follows a master. " +
				"Set chain on slaves in a region without masters, so that changes cross to it once; each slave in between adds its own lag."},
		{name: "repl-ack", def: "async", roles: owners,
			field: func(c *Config) value { return enum(&c.Replication.Ack, AckAsync, AckSemiSync, AckSync, AckAll) },
			doc: "What a write waits for beyond a majority of the masters: async for nothing, semi_sync until the slave that stands by has received it, sync until that slave has it on disk, all until every master and every slave has applied it too, but for those that were silent for repl-ack-timeout. " +
				"Raise it if a write that was acknowledged must survive the loss of all masters; each level adds a round trip to the slave, sync its fsync, and all the wait for the slowest node."},
		{name: "repl-ack-from", def: ackFromAny, roles: owners,
			field: func(c *Config) value { return ackFromValue{&c.Replication.AckFrom} },
			doc:   "Which slaves may stand by: any, or dc=NAME for those of one data centre (dc-id). Set it to have each write in a second place."},
		{name: "repl-ack-timeout", def: "1s", roles: owners,
			field: func(c *Config) value { return durationValue{&c.Replication.AckTimeout, 50 * time.Millisecond} },
			doc:   "How long the slave that stands by may confirm nothing while a write waits for it; then another one takes its place. Raise it if slaves pause for longer, lower it to wait less for one that is lost."},
		{name: "repl-ack-fallback", def: "refuse", roles: owners,
			field: func(c *Config) value { return enum(&c.Replication.AckFallback, FallbackRefuse, FallbackAsync) },
			doc:   "What happens to writes if no slave stands by: refuse rejects them, async acknowledges them without one until a slave stands by again. Choose async if writes must go on, refuse if none may be lost."},
		{name: "auto-promote-after", def: "0s", roles: []Role{RoleNone, RoleMaster, RoleSlave},
			field: func(c *Config) value { return durationValue{&c.Replication.AutoPromoteAfter, 0} },
			doc: "How long after the last sign of its master the slave that stands by becomes the master by itself; 0 means never. It needs the registry (discovery-service-addr), without which masters then answer nothing, and repl-ack. " +
				"Set the same on masters and slaves. Lower it for shorter interruptions, raise it if the registry or the network may pause for longer."},
		{name: "auto-rejoin", def: "false", field: func(c *Config) value { return boolValue{&c.Replication.AutoRejoin} },
			doc: "Whether a master that a promotion has replaced becomes a slave of the new masters by itself. What it had is set aside; if false, an operator does that with dkvctl -rejoin."},
		{name: "slave-linearizable", def: "forward", roles: slave,
			field: func(c *Config) value {
				return enum(&c.Replication.SlaveLinearizable, LinearizableForward, LinearizableReject)
			},
			doc: "What a slave does with a linearizable read: forward it to the leader, or reject it."},
		{name: "max-active-lag", def: "100000", roles: slave,
			field: func(c *Config) value { return intValue{&c.Replication.MaxActiveLag, 0, maxCount} },
			doc:   "How many changes a slave may lag and still count as healthy. Lower it if readers need fresher data, raise it if slaves turn unhealthy under bursts of writes."},
	}
}

func discoveryKeys() []key {
	server, clients := []Role{RoleDiscovery}, []Role{RoleNone, RoleMaster, RoleSlave}
	return []key{
		{name: "disable-discovery-client", def: "false", roles: clients,
			field: func(c *Config) value { return boolValue{&c.Discovery.Disabled} },
			doc:   "Keep this node out of the registry: it neither announces itself nor looks up others."},
		{name: "discovery-service.server.status-ttl", def: "5m", roles: server,
			field: func(c *Config) value { return durationValue{&c.Discovery.Server.StatusTTL, shortest} },
			doc:   "How long after its last heartbeat a node's row is removed. Raise it if nodes may be away for longer and must keep their rows."},
		{name: "discovery-service.server.heartbeat-timeout", def: "1m", roles: server,
			field: func(c *Config) value { return durationValue{&c.Discovery.Server.HeartbeatTimeout, shortest} },
			doc:   "How long after its last heartbeat a node is no longer shown. Lower it to notice lost nodes sooner, raise it if pauses make live nodes disappear."},
		{name: "discovery-service.server.max-rows", def: "200000", roles: server,
			field: func(c *Config) value { return intValue{&c.Discovery.Server.MaxRows, 1, maxCount} },
			doc:   "The most registered rows of all databases, one for each node and vBucket. A row takes up to 1KiB of memory. Raise it with the number of nodes."},
		{name: "discovery-service.server.max-nodes", def: "512", roles: server,
			field: func(c *Config) value { return intValue{&c.Discovery.Server.MaxNodes, 1, maxCount} },
			doc:   "The most registered nodes of one vBucket, a quarter of them reserved for masters. Raise it with the number of nodes."},
		{name: "discovery-service.client.discovery-service-addr", def: "multi:///127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003", roles: clients,
			field: func(c *Config) value { return addrListValue{p: &c.Discovery.Client.Addrs} },
			doc:   "The addresses of the registry's nodes: a,b,c or multi:///a,b,c."},
		{name: "discovery-service.client.push-status-interval", def: "1s", roles: clients,
			field: func(c *Config) value { return durationValue{&c.Discovery.Client.PushStatusInterval, shortest} },
			doc:   "The time between two heartbeats of this node to the registry. Keep it well below heartbeat-timeout."},
		{name: "discovery-service.client.poll-cluster-info-interval", def: "1s", roles: clients,
			field: func(c *Config) value { return durationValue{&c.Discovery.Client.PollClusterInfoInterval, shortest} },
			doc:   "The time between two lookups of the cluster in a registry that cannot stream its changes. Raise it for less load on the registry."},
	}
}
