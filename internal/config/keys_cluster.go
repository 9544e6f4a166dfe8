package config

import "github.com/dkvdb/dkv/internal/timing"

func nexusKeys() []key {
	members := []Role{RoleMaster, RoleDiscovery}
	// A slave becomes a member by a promotion.
	promoted := append(members, RoleSlave)
	return []key{
		{name: "nexus-cluster-name", def: "", roles: promoted,
			field: func(c *Config) value { return nameValue{&c.Nexus.ClusterName, true} },
			doc:   "The name of the Raft cluster, the same on all members. It keeps clusters on one network apart."},
		{name: "nexus-node-url", def: "", roles: promoted,
			field: func(c *Config) value { return urlValue{&c.Nexus.NodeURL} },
			doc:   "The Raft address of this node, http://host:port. It may be left empty if exactly one entry of nexus-cluster-url is an address of this machine. A slave has it for when it is promoted together with others."},
		{name: "nexus-cluster-url", def: "", roles: members,
			field: func(c *Config) value { return urlListValue{&c.Nexus.ClusterURLs} },
			doc:   "The Raft addresses of the first members, separated by commas. A master without them is a cluster of one."},
		{name: "nexus-join", def: "false", roles: members,
			field: func(c *Config) value { return boolValue{&c.Nexus.Join} },
			doc:   "Make an empty node wait until dkvctl -addNode adds it to a cluster."},
		{name: "nexus-log-dir", derived: "db-folder/nexus/log", roles: promoted,
			field: func(c *Config) value { return pathValue{p: &c.Nexus.LogDir} },
			doc:   "The folder of the Raft log; nothing else should be in it. Put it on a fast disk of its own if writes wait for the disk."},
		{name: "nexus-snap-dir", derived: "db-folder/nexus/snap", traits: obsolete,
			field: func(c *Config) value { return pathValue{p: &c.Nexus.SnapDir} },
			doc:   "Has no effect and is accepted from old files: a snapshot is the state in db-folder."},
		{name: "nexus-entry-dir", derived: "db-folder/nexus/entry", traits: obsolete,
			field: func(c *Config) value { return pathValue{p: &c.Nexus.EntryDir} },
			doc:   "Has no effect and is accepted from old files: entries are in nexus-log-dir."},
		{name: "nexus-entry-store", def: "disk", roles: members,
			field: func(c *Config) value { return enum(&c.Nexus.EntryStore, EntriesOnDisk, EntriesInMemory) },
			doc:   "Where the Raft log is kept. Only disk is accepted, since the log must survive a crash."},
		{name: "nexus-repl-timeout", def: "5s", roles: members,
			field: func(c *Config) value { return durationValue{&c.Nexus.ReplTimeout, shortest} },
			doc:   "How long a proposal may take before the write fails with an unknown outcome. A write that waits for large ones of others is rejected, unapplied, after three quarters of it. Raise it for slow disks or networks."},
		{name: "nexus-lease-based-reads", def: "true", roles: members,
			field: func(c *Config) value { return boolValue{&c.Nexus.LeaseBasedReads} },
			doc:   "Let the leader answer linearizable reads alone while its lease lasts. Set it to false if virtual machines may be paused for more than a second: each read then asks a quorum."},
		{name: "nexus-snapshot-count", def: "100000", roles: members,
			field: func(c *Config) value { return intValue{&c.Nexus.SnapshotCount, 1, maxCount} },
			doc:   "The number of log entries between two snapshots. Lower it for a smaller log and faster restarts, raise it for fewer flushes."},
		{name: "nexus-snapshot-interval", def: "0s", roles: members,
			field: func(c *Config) value { return durationValue{&c.Nexus.SnapshotInterval, 0} },
			doc:   "The time after which a snapshot is taken of each vBucket that was written to, also before nexus-snapshot-count entries; 0 means that only those decide. Set it for short restarts of members that are written to seldom."},
		{name: "nexus-snapshot-catchup-entries", def: "10000", roles: members,
			field: func(c *Config) value { return intValue{&c.Nexus.SnapshotCatchupEntries, 0, maxCount} },
			doc:   "The number of log entries kept behind a snapshot. Raise it if members that were briefly away have to receive a snapshot."},
		{name: "nexus-max-snapshots", def: "5", traits: obsolete,
			field: func(c *Config) value { return intValue{&c.Nexus.MaxSnapshots, 0, maxCount} },
			doc:   "Has no effect and is accepted from old files: the newest snapshot is kept."},
		{name: "nexus-max-wals", def: "5", traits: obsolete,
			field: func(c *Config) value { return intValue{&c.Nexus.MaxWALs, 0, maxCount} },
			doc:   "Has no effect and is accepted from old files: nexus-snapshot-catchup-entries decides what is kept."},
	}
}

func raftKeys() []key {
	members := []Role{RoleMaster, RoleDiscovery, RoleSlave} // a slave becomes a member by a promotion
	const preset = "raft-profile"
	return []key{
		{name: "raft-profile", def: "lan", roles: members,
			field: func(c *Config) value { return enum(&c.Raft.Profile, RaftLAN, RaftWAN) },
			doc:   "The preset of the keys below: lan for members in one building, wan for several regions. It must be the same on all members, and is changed with dkvctl -setTiming."},
		{name: "raft-rtt", derived: preset, roles: members,
			field: func(c *Config) value { return durationValue{&c.Raft.RTT, shortest} },
			doc:   "The unit of the next two keys, about one round trip between members: lan 50ms, wan 100ms."},
		{name: "raft-election-rtt", derived: preset, roles: members,
			field: func(c *Config) value { return intValue{&c.Raft.ElectionRTT, 1, 10000} },
			doc:   "The number of round trips without a leader after which an election starts: lan 20, wan 50. Raise it if slow networks or disks cause elections, lower it for faster failover."},
		{name: "raft-heartbeat-rtt", derived: preset, roles: members,
			field: func(c *Config) value { return intValue{&c.Raft.HeartbeatRTT, 1, 10000} },
			doc:   "The number of round trips between two heartbeats of a leader: lan 2, wan 5."},
		{name: "lease-duration", derived: preset, roles: members,
			field: func(c *Config) value { return durationValue{&c.Raft.LeaseDuration, shortest} },
			doc:   "How long a confirmed leader answers reads alone: lan 400ms, wan 2s. A new leader waits for the longer of its own lease and the last one, so lower it for faster failover, raise it if leases often end early."},
	}
}

func securityKeys() []key {
	return []key{
		{name: "tls-mode", derived: "required if tls-cert-file is set, otherwise off",
			field: func(c *Config) value { return enum(&c.Security.TLSMode, TLSOff, TLSPermissive, TLSRequired) },
			doc:   "Whether connections use TLS, on all ports and to other nodes: off, required, or permissive, which accepts both kinds. A running cluster goes from off to permissive node by node, and then from permissive to required."},
		{name: "tls-cert-file", def: "",
			field: func(c *Config) value { return pathValue{p: &c.Security.TLSCertFile} },
			doc:   "The PEM file of this node's certificate, followed by those between it and its authority. This file and the next two are read again when they change, and at SIGHUP."},
		{name: "tls-key-file", def: "", traits: secret,
			field: func(c *Config) value { return secretFileValue{&c.Security.TLSKeyFile} },
			doc:   "The PEM file of that certificate's private key, without a passphrase."},
		{name: "tls-ca-file", def: "",
			field: func(c *Config) value { return pathValue{p: &c.Security.TLSCAFile} },
			doc:   "The PEM file of the authorities that must have issued the certificates of this node, other nodes and clients."},
		{name: "tls-min-version", def: "1.3",
			field: func(c *Config) value { return tlsVersionValue(&c.Security.TLSMinVersion) },
			doc:   "The oldest TLS version that is accepted. Lower it to 1.2 for clients that know no newer one."},
		{name: "tls-node-name", def: "dkv-node",
			field: func(c *Config) value { return dnsNameValue{&c.Security.TLSNodeName} },
			doc:   "The DNS name in the certificates of nodes, by which they know each other whatever their addresses are. Only certificates of nodes may carry it. It must be the same on all nodes."},
		{name: "auth-file", def: "",
			field: func(c *Config) value { return secretFileValue{&c.Security.AuthFile} },
			doc:   "The YAML file of the identities that may call this node, what shows them and what they may do; no authentication if empty. It is read again when it changes, and at SIGHUP."},
	}
}

func logKeys() []key {
	return []key{
		{name: "log-level", def: "info", traits: reloads, field: func(c *Config) value { return levelValue(&c.Log.Level) },
			doc: "The least severe level that is logged. SIGHUP reads it again."},
		{name: "log-format", def: "text", field: func(c *Config) value { return enum(&c.Log.Format, LogText, LogJSON) },
			doc: "The format of log lines: text for people, or json with one object a line."},
		{name: "verbose", def: "false", traits: reloads, field: func(c *Config) value { return boolValue{&c.Log.Verbose} },
			doc: "Short for log-level debug."},
		{name: "slow-log-threshold", def: "100ms", field: func(c *Config) value { return durationValue{&c.Log.SlowThreshold, 0} },
			doc: "Requests that take longer are logged with the phases in which they spent their time; 0 logs none. Raise it if such lines are too many."},
		{name: "access-log", def: "", field: func(c *Config) value { return pathValue{p: &c.Log.Access} },
			doc: "The file of the access log, a line for each request in the format of log-format; log writes the lines to the common log, and there is no access log if empty. A line that would hold up a request is dropped. SIGHUP opens the file again."},
		{name: "access-log-size", def: "64MiB", field: func(c *Config) value { return sizeValue{&c.Log.AccessSize, 0, anySize} },
			doc: "The size at which a new access file is begun; 0 if another program, such as logrotate, does that."},
		{name: "access-log-files", def: "4", field: func(c *Config) value { return intValue{&c.Log.AccessFiles, 0, 1000} },
			doc: "The number of earlier access files that are kept, as FILE.1, FILE.2 and so on. Raise it to look back further."},
		{name: "audit-log", def: "", field: func(c *Config) value { return pathValue{p: &c.Log.Audit} },
			doc: "The file of the audit log, JSON lines: administrative calls with their results, and calls that were rejected because of who made them; the common log if empty. SIGHUP opens it again."},
		{name: "audit-log-size", def: "64MiB", field: func(c *Config) value { return sizeValue{&c.Log.AuditSize, 0, anySize} },
			doc: "The size at which a new audit file is begun; 0 if another program, such as logrotate, does that."},
		{name: "audit-log-files", def: "4", field: func(c *Config) value { return intValue{&c.Log.AuditFiles, 0, 1000} },
			doc: "The number of earlier audit files that are kept, as FILE.1, FILE.2 and so on. Raise it to look back further."},
		{name: "audit-required", def: "false", field: func(c *Config) value { return boolValue{&c.Log.AuditRequired} },
			doc: "Reject administrative calls while audit-log cannot be written, and log each before it does anything. Without it such calls go on, their lines go to the common log, and the node's health says why."},
	}
}

func opsKeys() []key {
	return []key{
		{name: "pprof", def: "false", field: func(c *Config) value { return boolValue{&c.Ops.Pprof} },
			doc: "Serve run-time profiles under /debug/pprof; without auth-file, to this host only."},
		{name: "statsd-addr", def: "",
			field: func(c *Config) value { return addrValue{p: &c.Ops.StatsdAddr, optional: true} },
			doc:   "The statsd server, host:port, that all metrics are sent to over UDP every ten seconds; none if empty. Labels are parts of the names."},
		{name: "trace-endpoint", def: "",
			field: func(c *Config) value { return collectorValue{&c.Ops.TraceEndpoint} },
			doc:   "The OpenTelemetry collector that spans of requests are sent to by OTLP over gRPC, host:port in the clear or https://host:port by TLS with tls-ca-file and this node's certificate; no tracing if empty. A path that follows, such as /otlp, comes before that of the calls."},
		{name: "trace-sample", def: "0.01",
			field: func(c *Config) value { return shareValue{&c.Ops.TraceSample} },
			doc:   "The share of requests that is traced, 0 to 1, of those that come without a traceparent; the others are traced if it says so. Raise it to see more requests, lower it if the collector gets too many."},
		{name: "max-clock-jump", def: "10s", field: func(c *Config) value { return durationValue{&c.Ops.MaxClockJump, shortest} },
			doc: "How far a member's clock may be from a majority's: one further off is not added and counts only that far, and a node alone follows larger steps slowly. Raise it if clocks are known to differ more, lower it if keys must expire more exactly."},
		{name: "drain-timeout", def: "8s", field: func(c *Config) value { return durationValue{&c.Ops.DrainTimeout, 0} },
			doc: "How long a stopping node waits for running requests. Keep it below the time after which the supervisor kills it (10s with Docker)."},
		{name: "allow-drills", def: "false", field: func(c *Config) value { return boolValue{&c.Ops.AllowDrills} },
			doc: "Let dkvctl -drill give this node a fault for up to a minute: no answers, no other nodes, a slow disk. All nodes of a cluster have to agree. It loses no data, but a client waits as it would in a true fault."},
	}
}

// presetOf returns the preset of a profile; an unknown one is the LAN.
func presetOf(p RaftProfile) timing.Timing {
	if p == RaftWAN {
		return timing.WAN
	}
	return timing.LAN
}
