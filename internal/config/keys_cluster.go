package config

import "github.com/dkvdb/dkv/internal/timing"

func nexusKeys() []key {
	members := []Role{RoleMaster, RoleDiscovery}
	return []key{
		{name: "nexus-cluster-name", def: "", roles: members,
			field: func(c *Config) value { return nameValue{&c.Nexus.ClusterName, true} },
			doc:   "name of the Raft cluster, the same on all members; keeps clusters on one network apart"},
		{name: "nexus-node-url", def: "", roles: members,
			field: func(c *Config) value { return urlValue{&c.Nexus.NodeURL} },
			doc:   "Raft address of this node; may be left out where only one entry of nexus-cluster-url is this machine"},
		{name: "nexus-cluster-url", def: "", roles: members,
			field: func(c *Config) value { return urlListValue{&c.Nexus.ClusterURLs} },
			doc:   "Raft addresses of the first members, with commas between"},
		{name: "nexus-join", def: "false", roles: members,
			field: func(c *Config) value { return boolValue{&c.Nexus.Join} },
			doc:   "an empty node waits until dkvctl -addNode invites it"},
		{name: "nexus-log-dir", derived: "db-folder/nexus/log", roles: members,
			field: func(c *Config) value { return pathValue{p: &c.Nexus.LogDir} },
			doc:   "folder of the Raft log"},
		{name: "nexus-snap-dir", derived: "db-folder/nexus/snap", traits: obsolete,
			field: func(c *Config) value { return pathValue{p: &c.Nexus.SnapDir} },
			doc:   "without effect, accepted from old files: a snapshot is the state in db-folder"},
		{name: "nexus-entry-dir", derived: "db-folder/nexus/entry", traits: obsolete,
			field: func(c *Config) value { return pathValue{p: &c.Nexus.EntryDir} },
			doc:   "without effect, accepted from old files: entries are in nexus-log-dir"},
		{name: "nexus-entry-store", def: "disk", roles: members,
			field: func(c *Config) value { return enum(&c.Nexus.EntryStore, EntriesOnDisk, EntriesInMemory) },
			doc:   "where the Raft log is kept; memory is refused, since the log must survive a crash"},
		{name: "nexus-repl-timeout", def: "5s", roles: members,
			field: func(c *Config) value { return durationValue{&c.Nexus.ReplTimeout, shortest} },
			doc:   "time that a proposal may take"},
		{name: "nexus-lease-based-reads", def: "true", roles: members,
			field: func(c *Config) value { return boolValue{&c.Nexus.LeaseBasedReads} },
			doc:   "the leader answers linearizable reads alone while its lease lasts; false asks a quorum each time"},
		{name: "nexus-snapshot-count", def: "100000", roles: members,
			field: func(c *Config) value { return intValue{&c.Nexus.SnapshotCount, 1, maxCount} },
			doc:   "log entries between two snapshots"},
		{name: "nexus-snapshot-catchup-entries", def: "10000", roles: members,
			field: func(c *Config) value { return intValue{&c.Nexus.SnapshotCatchupEntries, 0, maxCount} },
			doc:   "log entries kept behind a snapshot, for members shortly away"},
		{name: "nexus-max-snapshots", def: "5", traits: obsolete,
			field: func(c *Config) value { return intValue{&c.Nexus.MaxSnapshots, 0, maxCount} },
			doc:   "without effect, accepted from old files: the newest snapshot is kept"},
		{name: "nexus-max-wals", def: "5", traits: obsolete,
			field: func(c *Config) value { return intValue{&c.Nexus.MaxWALs, 0, maxCount} },
			doc:   "without effect, accepted from old files: nexus-snapshot-catchup-entries decides what is kept"},
	}
}

func raftKeys() []key {
	members := []Role{RoleMaster, RoleDiscovery}
	const preset = "raft-profile"
	return []key{
		{name: "raft-profile", def: "lan", roles: members,
			field: func(c *Config) value { return enum(&c.Raft.Profile, RaftLAN, RaftWAN) },
			doc:   "preset of the times below, for members in one building or in several regions; the same on all members: dkvctl -setTiming changes it"},
		{name: "raft-rtt", derived: preset, roles: members,
			field: func(c *Config) value { return durationValue{&c.Raft.RTT, shortest} },
			doc:   "unit of the next two keys, about a round trip between members; lan 50ms, wan 100ms"},
		{name: "raft-election-rtt", derived: preset, roles: members,
			field: func(c *Config) value { return intValue{&c.Raft.ElectionRTT, 1, 10000} },
			doc:   "round trips without a leader that start an election; lan 20, wan 50"},
		{name: "raft-heartbeat-rtt", derived: preset, roles: members,
			field: func(c *Config) value { return intValue{&c.Raft.HeartbeatRTT, 1, 10000} },
			doc:   "round trips between two heartbeats of a leader; lan 2, wan 5"},
		{name: "lease-duration", derived: preset, roles: members,
			field: func(c *Config) value { return durationValue{&c.Raft.LeaseDuration, shortest} },
			doc:   "time a confirmed leader answers reads alone; a new one waits out the longer of its own and the one before; lan 400ms, wan 2s"},
	}
}

func securityKeys() []key {
	return []key{
		{name: "tls-cert-file", def: "", traits: unbuilt | guards,
			field: func(c *Config) value { return pathValue{p: &c.Security.TLSCertFile} },
			doc:   "PEM file of this node's certificate; no TLS when empty"},
		{name: "tls-key-file", def: "", traits: unbuilt | guards | secret,
			field: func(c *Config) value { return pathValue{p: &c.Security.TLSKeyFile} },
			doc:   "PEM file of that certificate's private key"},
		{name: "tls-ca-file", def: "", traits: unbuilt | guards,
			field: func(c *Config) value { return pathValue{p: &c.Security.TLSCAFile} },
			doc:   "PEM file of the authorities that other nodes' and clients' certificates must come from"},
		{name: "tls-min-version", def: "1.2", traits: unbuilt | guards,
			field: func(c *Config) value { return tlsVersionValue(&c.Security.TLSMinVersion) },
			doc:   "oldest TLS version that is spoken"},
		{name: "auth-token-file", def: "", traits: unbuilt | guards | secret,
			field: func(c *Config) value { return pathValue{p: &c.Security.AuthTokenFile} },
			doc:   "file of hashed access tokens; no authentication when empty"},
	}
}

func logKeys() []key {
	return []key{
		{name: "log-level", def: "info", traits: reloads, field: func(c *Config) value { return levelValue(&c.Log.Level) },
			doc: "least severe level that is logged; read again on SIGHUP"},
		{name: "log-format", def: "text", field: func(c *Config) value { return enum(&c.Log.Format, LogText, LogJSON) },
			doc: "lines for people, or one JSON object a line"},
		{name: "verbose", def: "false", traits: reloads, field: func(c *Config) value { return boolValue{&c.Log.Verbose} },
			doc: "short for log-level: debug"},
		{name: "slow-log-threshold", def: "100ms", field: func(c *Config) value { return durationValue{&c.Log.SlowThreshold, 0} },
			doc: "requests that take longer are logged, with the time spent waiting, writing and reading; 0 logs none"},
		{name: "access-log", def: "", traits: unbuilt, field: func(c *Config) value { return pathValue{p: &c.Log.Access} },
			doc: "file of a line a request; none when empty"},
		{name: "audit-log", def: "", field: func(c *Config) value { return pathValue{p: &c.Log.Audit} },
			doc: "file of administrative calls; in the common log when empty"},
	}
}

func opsKeys() []key {
	return []key{
		{name: "pprof", def: "false", field: func(c *Config) value { return boolValue{&c.Ops.Pprof} },
			doc: "serve run-time profiles under /debug/pprof"},
		{name: "statsd-addr", def: "", traits: unbuilt,
			field: func(c *Config) value { return addrValue{p: &c.Ops.StatsdAddr, optional: true} },
			doc:   "statsd server to send metrics to; none when empty"},
		{name: "max-clock-jump", def: "10s", field: func(c *Config) value { return durationValue{&c.Ops.MaxClockJump, shortest} },
			doc: "how far clocks may be apart: a member further off is not let in, and counts no further; a node alone follows larger steps slowly"},
		{name: "drain-timeout", def: "8s", field: func(c *Config) value { return durationValue{&c.Ops.DrainTimeout, 0} },
			doc: "time that a stopping node gives running requests; less than what stops it waits (10s with Docker)"},
	}
}

// presetOf returns the preset of a profile; an unknown one is the LAN.
func presetOf(p RaftProfile) timing.Timing {
	if p == RaftWAN {
		return timing.WAN
	}
	return timing.LAN
}
