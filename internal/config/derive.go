package config

import (
	"net"
	"path/filepath"
	"strconv"
)

// cacheOfUnknown is the cache size if the machine's memory is not known.
const cacheOfUnknown = 128 * MiB

// Complete fills every derived key that is still empty, each after those that it is
// derived from. It is idempotent. Load has called it already; it is exported for trees
// that start from Default.
func (c *Config) Complete(host Host) error {
	if c.origins == nil {
		c.origins = make(map[string]Origin)
	}
	if err := c.deriveName(host); err != nil {
		return err
	}
	c.deriveFolders()
	c.deriveAdvertised(host)
	c.derivePreset(host)
	// An explicit 0 keeps nothing free.
	if c.Storage.noReserve = c.IsSet("disk-reserve") && c.Storage.DiskReserve == 0; c.Storage.DiskReserve == 0 && !c.Storage.noReserve {
		c.derived("disk-reserve") // of each file system that is written to: see ReserveOf
		if host.FileSystem != nil {
			c.fileSystem = host.FileSystem(c.Storage.DBFolder)
		}
	}
	c.deriveRaft()
	if c.Security.TLSMode == "" {
		c.Security.TLSMode = TLSOff
		if c.Security.TLSCertFile != "" {
			c.Security.TLSMode = TLSRequired
		}
		c.derived("tls-mode")
	}
	return nil
}

// changelogInMemory bounds the change log of a diskless node.
const changelogInMemory = 64 * MiB

// deriveChangelog keeps less history if that takes memory. An explicit 0 means no limit.
func (c *Config) deriveChangelog(s sizing) {
	if c.Changelog.MaxBytes != 0 || c.IsSet("changelog-max-bytes") {
		return
	}
	c.Changelog.MaxBytes = s.changelog
	if c.Storage.Diskless {
		c.Changelog.MaxBytes = changelogInMemory
	}
	c.derived("changelog-max-bytes")
}

// deriveConnections bounds connections so that storage has file descriptors left.
func (c *Config) deriveConnections(host Host, s sizing) {
	l := &c.Limits
	if l.Connections == 0 {
		l.Connections = connectionsFor(host.OpenFiles(), s.connections)
		c.derived("max-connections")
	}
	if l.ConnectionsPerHost == 0 {
		l.ConnectionsPerHost = max(l.Connections*3/4, 1)
		c.derived("max-connections-per-host")
	}
}

// How file descriptors are divided.
const (
	leastConnections = 16
	// ownFiles are for logs, and for connections to other nodes.
	ownFiles = 64
)

// EngineFiles is how many file descriptors of a process's limit its storage
// engines may take.
func EngineFiles(limit int) int { return limit / 2 }

// HTTPFiles is how many of them the ops HTTP server may take.
func HTTPFiles(limit int) int { return min(max(limit/16, 8), 256) }

// connectionsFor returns the number of gRPC connections for a limit of open files, up to
// most.
func connectionsFor(limit, most int) int {
	left := limit - EngineFiles(limit) - HTTPFiles(limit) - ownFiles
	return min(max(left, leastConnections), most)
}

// derived records that a key's value was derived.
func (c *Config) derived(key string) { c.origins[key] = Origin{Source: Derived} }

// derivePath fills one empty path.
func (c *Config) derivePath(key string, p *string, parts ...string) {
	if *p == "" {
		*p = filepath.Join(parts...)
		c.derived(key)
	}
}

// NexusFolder is where a data folder has the Raft log by default.
func NexusFolder(dbFolder string) string { return filepath.Join(dbFolder, "nexus") }

func (c *Config) deriveFolders() {
	s, n := &c.Storage, &c.Nexus
	c.derivePath("db-folder", &s.DBFolder, s.RootFolder, c.Node.Name)
	c.derivePath("backup-dir", &s.BackupDir, s.DBFolder, "backups")
	c.derivePath("nexus-log-dir", &n.LogDir, NexusFolder(s.DBFolder), "log")
	c.derivePath("nexus-snap-dir", &n.SnapDir, NexusFolder(s.DBFolder), "snap")
	c.derivePath("nexus-entry-dir", &n.EntryDir, NexusFolder(s.DBFolder), "entry")
}

// deriveAdvertised advertises the listening address, or an address of this machine if
// it listens on all interfaces.
func (c *Config) deriveAdvertised(host Host) {
	if c.Network.AdvertiseAddr != "" {
		return
	}
	name, port, err := net.SplitHostPort(c.Network.ListenAddr)
	if err != nil {
		return // Validate returns the error
	}
	if isUnspecified(name) {
		name = "127.0.0.1"
		if addrs := host.Addrs(); len(addrs) > 0 {
			name = addrs[0].String()
		}
	}
	c.Network.AdvertiseAddr = net.JoinHostPort(name, port)
	c.derived("advertise-addr")
}

// Advertise returns the address for other nodes and clients once the node listens on
// bound: AdvertiseAddr, with the real port if it was derived from port 0.
func (c *Config) Advertise(bound net.Addr) string {
	tcp, ok := bound.(*net.TCPAddr)
	host, port, err := net.SplitHostPort(c.Network.AdvertiseAddr)
	if err != nil || port != "0" || !ok {
		return c.Network.AdvertiseAddr
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

func (c *Config) deriveRaft() {
	r, preset := &c.Raft, presetOf(c.Raft.Profile)
	if r.RTT == 0 {
		r.RTT = preset.RTT
		c.derived("raft-rtt")
	}
	if r.ElectionRTT == 0 {
		r.ElectionRTT = int(preset.Election)
		c.derived("raft-election-rtt")
	}
	if r.HeartbeatRTT == 0 {
		r.HeartbeatRTT = int(preset.Heartbeat)
		c.derived("raft-heartbeat-rtt")
	}
	if r.LeaseDuration == 0 {
		r.LeaseDuration = preset.Lease
		c.derived("lease-duration")
	}
}
