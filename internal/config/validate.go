package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/timing"
)

// Validate checks every value by itself and all of them together, after Complete. The
// error is a *ValueError about the first mistake.
func (c *Config) Validate() error {
	t := newTable()
	if err := c.validateEach(t); err != nil {
		return err
	}
	for _, check := range []func() error{
		c.validateRole, c.validateAddrs, c.validateFolders, c.validateCaches,
		c.validateLimits, c.validateDiscovery, c.validateAutoPromote, c.validateRaft, c.validateSnapshots, c.validateTLS, c.validateAuth, c.validateLog,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// validateEach checks that every field holds a value that its key accepts: code can
// fill trees too.
func (c *Config) validateEach(t *table) error {
	scratch := *c
	for k := range t.all {
		if err := k.field(&scratch).set(k.field(c).text()); err != nil {
			return c.wrong(k.name, "%w", err)
		}
	}
	return nil
}

// wrong returns an error about the value of a key.
func (c *Config) wrong(key, format string, args ...any) error {
	return &ValueError{Key: key, Origin: c.origins[key], Err: fmt.Errorf(format, args...)}
}

func (c *Config) validateRole() error {
	s := &c.Storage
	switch {
	case c.Role == RoleMaster && s.Engine != RocksDB:
		return c.wrong("db-engine", "a master cannot run on %s: use --db-engine rocksdb", s.Engine)
	case c.Role == RoleDiscovery && s.Engine != RocksDB && c.InRaft():
		return c.wrong("db-engine", "a registry of several nodes cannot run on %s: use --db-engine rocksdb", s.Engine)
	case s.Diskless && s.Engine != Badger:
		return c.wrong("diskless", "%s cannot work without a disk: use --db-engine badger, or drop --diskless", s.Engine)
	case s.Diskless && c.Role != RoleNone && c.Role != RoleSlave:
		return c.wrong("diskless", "a node of role %s must keep its data on disk: drop --diskless", c.Role)
	case s.EngineINI != "" && s.Engine != RocksDB:
		return c.wrong("db-engine-ini", "raw engine options are RocksDB's, and db-engine is %s: remove the key", s.Engine)
	case s.EncryptionKeyFile != "" && s.Engine != Badger:
		return c.wrong("encryption-key-file", "%s does not encrypt what it stores: put db-folder, nexus-log-dir and backup-dir on an encrypted file system (such as LUKS or fscrypt) and remove the key, or use --db-engine badger", s.Engine)
	case s.PreviousKeyFile != "" && s.EncryptionKeyFile == "":
		return c.wrong("encryption-previous-key-file", "there is no key that replaces it: set encryption-key-file as well")
	case c.Node.VBuckets&(c.Node.VBuckets-1) != 0:
		return c.wrong("vbuckets", "%d is not a power of two: write 1, 2, 4, ... up to 1024", c.Node.VBuckets)
	case c.Nexus.EntryStore == EntriesInMemory:
		return c.wrong("nexus-entry-store", "the Raft log must survive a crash and cannot be kept in memory: write disk")
	}
	return nil
}

func (c *Config) validateAddrs() error {
	n := &c.Network
	if c.origins["advertise-addr"].Source != Derived {
		// A derived one may have port 0 until Advertise replaces it.
		if err := checkAddr(n.AdvertiseAddr, false); err != nil {
			return c.wrong("advertise-addr", "%w", err)
		}
	}
	if c.IsSet("http-listen-addr") && overlap(n.ListenAddr, n.HTTPListenAddr) {
		return c.wrong("http-listen-addr", "%s overlaps listen-addr %s: give the two different ports", n.HTTPListenAddr, n.ListenAddr)
	}
	return nil
}

// overlap reports whether two listeners cannot both have their address.
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || isUnspecified(hostA) || isUnspecified(hostB)
}

func (c *Config) validateFolders() error {
	s := &c.Storage
	backups, data := realPath(s.BackupDir), realPath(s.DBFolder)
	if Holds(s.BackupDir, s.DBFolder) {
		return c.wrong("backup-dir",
			"%q contains db-folder %q, so that a backup would be written among live data: name another folder", s.BackupDir, s.DBFolder)
	}
	if inVBucket(data, backups) {
		return c.wrong("backup-dir",
			"%q holds a vBucket's data: name another folder", s.BackupDir)
	}
	if !c.InRaft() {
		return nil
	}
	switch log := realPath(c.Nexus.LogDir); {
	case log == data:
		return c.wrong("nexus-log-dir", "%q is db-folder itself, and each of the two keeps its own files: name another folder, such as one below it", c.Nexus.LogDir)
	case inVBucket(data, log):
		return c.wrong("nexus-log-dir", "%q holds a vBucket's data: name another folder", c.Nexus.LogDir)
	}
	return nil
}

func (c *Config) validateCaches() error {
	rows, all := c.Storage.RowCacheSize, c.Storage.BlockCacheSize
	switch {
	case rows == 0 || !c.IsSet("row-cache-size"):
		return nil
	case rows < LeastRowCache:
		return c.wrong("row-cache-size", "%s is too small to be of use: write at least %s, or 0 for none", rows, Size(LeastRowCache))
	case rows > all/2:
		return c.wrong("row-cache-size", "%s is more than half of block-cache-size %s, of which it is a part: lower it, or raise block-cache-size", rows, all)
	}
	return nil
}

// inVBucket reports whether a folder is, or is in, that of a vBucket in the data folder.
func inVBucket(data, folder string) bool {
	below, err := filepath.Rel(data, folder)
	first, _, _ := strings.Cut(filepath.ToSlash(below), "/")
	return err == nil && strings.HasPrefix(first, "vbucket-")
}

// Holds reports whether a folder is another one or has it in it, whatever links lead there. The
// two need not exist.
func Holds(folder, other string) bool {
	inside, err := filepath.Rel(realPath(folder), realPath(other))
	return err == nil && filepath.IsLocal(inside)
}

// mostLinks is how many links the system follows in a path.
const mostLinks = 40

// LeadsThrough reports whether a folder is another one, or has it or a link on the way to it in
// it: then the other one is not found without the folder. The two need not exist.
func LeadsThrough(folder, other string) bool {
	real, at := realPath(folder), "/"
	if full, err := filepath.Abs(other); err == nil {
		other = full
	}
	links := 0
	for rest := strings.Split(other, "/"); len(rest) > 0; {
		at, rest = filepath.Join(at, rest[0]), rest[1:]
		if inside, err := filepath.Rel(real, at); err == nil && filepath.IsLocal(inside) {
			return true
		}
		target, err := os.Readlink(at)
		if err != nil || links == mostLinks {
			continue
		}
		links++
		if at = filepath.Dir(at); filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return false
}

// realPath returns a path in a form that can be compared: absolute, and without
// symbolic links as far as it exists.
func realPath(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	for at, rest := path, ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
	}
}

// MaxBadgerKey is the longest key that nodes with Badger accept: its own limit is
// 65 000 bytes, of which prefixes such as an expiry take some.
const MaxBadgerKey = 63 << 10

func (c *Config) validateLimits() error {
	l := &c.Limits
	if c.Storage.Engine == Badger && l.KeySize > MaxBadgerKey {
		return c.wrong("max-key-size", "%v is more than the %v that db-engine badger can store: lower it, or use --db-engine rocksdb",
			l.KeySize, Size(MaxBadgerKey))
	}
	if l.KeySize+l.ValueSize > l.BatchSize {
		return c.wrong("max-batch-size",
			"%v cannot hold one pair of max-key-size %v and max-value-size %v: raise it, or lower those",
			l.BatchSize, l.KeySize, l.ValueSize)
	}
	if l.MemoryInFlight < l.MessageSize {
		return c.wrong("max-memory-in-flight", "%v is less than one message of max-message-size %v: raise it, or lower that", l.MemoryInFlight, l.MessageSize)
	}
	if l.BatchSize >= l.MessageSize {
		return c.wrong("max-message-size", "%v leaves no room around max-batch-size %v: raise it, or lower that", l.MessageSize, l.BatchSize)
	}
	return nil
}

func (c *Config) validateDiscovery() error {
	d := &c.Discovery
	if d.Server.HeartbeatTimeout > d.Server.StatusTTL {
		return c.wrong("discovery-service.server.heartbeat-timeout",
			"%s is longer than status-ttl %s, after which the row is gone: lower it, or raise status-ttl",
			formatDuration(d.Server.HeartbeatTimeout), formatDuration(d.Server.StatusTTL))
	}
	if c.Role == RoleSlave && d.Disabled && len(c.Replication.MasterAddrs) == 0 {
		return c.wrong("disable-discovery-client",
			"a slave without discovery cannot find its master: set --repl-master-addr, or remove the key")
	}
	return nil
}

// leastSnapshotInterval keeps the engines from syncing all the time.
const leastSnapshotInterval = time.Second

// validateSnapshots rejects snapshots that follow one another without a pause.
func (c *Config) validateSnapshots() error {
	if d := c.Nexus.SnapshotInterval; d > 0 && d < leastSnapshotInterval {
		return c.wrong("nexus-snapshot-interval", "%s is too short, since each snapshot syncs the engine: write at least %s, or 0 for none by time", formatDuration(d), formatDuration(leastSnapshotInterval))
	}
	return nil
}

// leastAutoPromote leaves the registry time to elect an owner, and nodes to ask it.
const leastAutoPromote = 2 * time.Second

// validateAutoPromote rejects promotions without an operator that could not work.
func (c *Config) validateAutoPromote() error {
	r := &c.Replication
	if r.AutoPromoteAfter == 0 || c.Role == RoleDiscovery {
		return nil
	}
	const key = "auto-promote-after"
	switch {
	case r.AutoPromoteAfter < leastAutoPromote:
		return c.wrong(key, "%s is too short to notice reliably that a master is lost: write at least %s, or 0 for never", formatDuration(r.AutoPromoteAfter), formatDuration(leastAutoPromote))
	case r.AutoPromoteAfter > mostAutoPromote:
		return c.wrong(key, "%s is too long: write at most %s, or 0 for never", formatDuration(r.AutoPromoteAfter), formatDuration(mostAutoPromote))
	case c.Discovery.Disabled:
		return c.wrong(key, "the registry decides which node is the master, and disable-discovery-client is set: remove that, or this key")
	case !c.IsSet("discovery-service.client.discovery-service-addr"):
		return c.wrong(key, "the registry decides which node is the master: set discovery-service.client.discovery-service-addr to its nodes, or remove this key")
	case c.Storage.Diskless:
		return c.wrong(key, "a node without a disk forgets at a restart what it has acknowledged, so it can neither be replaced nor replace another one safely: drop --diskless, or remove this key")
	case c.Role == RoleSlave && c.Storage.Engine != RocksDB && c.Node.VBuckets > 1:
		return c.wrong(key, "a slave of %d vBuckets becomes a master that keeps logs by Raft, which cannot run on %s: use --db-engine rocksdb, or remove this key", c.Node.VBuckets, c.Storage.Engine)
	case r.Ack == AckAsync:
		return c.wrong(key, "with repl-ack async no slave is known to have what was acknowledged, so none could replace this node: set repl-ack to sync (or to semi_sync, which may lose what a slave has not written to disk), or remove this key")
	}
	return nil
}

// mostAutoPromote keeps leases below the longest that the registry accepts.
const mostAutoPromote = 24 * time.Hour

func (c *Config) validateRaft() error {
	r := &c.Raft
	switch {
	case r.ElectionRTT <= 2*r.HeartbeatRTT:
		return c.wrong("raft-election-rtt",
			"%d would start an election after one late heartbeat: write more than twice raft-heartbeat-rtt %d",
			r.ElectionRTT, r.HeartbeatRTT)
	case c.Nexus.ReplTimeout < 2*r.RTT:
		return c.wrong("nexus-repl-timeout",
			"%s is shorter than twice raft-rtt %s, so every proposal would time out: raise it",
			formatDuration(c.Nexus.ReplTimeout), formatDuration(r.RTT))
	case r.LeaseDuration > timing.LongestLease:
		return c.wrong("lease-duration", "%s is longer than the %s that the log can record: lower it",
			formatDuration(r.LeaseDuration), formatDuration(timing.LongestLease))
	case r.LeaseDuration >= r.ElectionTimeout():
		return c.wrong("lease-duration",
			"%s is not below the election timeout, %s (raft-rtt times raft-election-rtt): a new leader would wait longer for old leases than its election took; lower it",
			formatDuration(r.LeaseDuration), formatDuration(r.ElectionTimeout()))
	}
	return nil
}

// validateTLS rejects certificates that would not be used, and modes without them.
func (c *Config) validateTLS() error {
	s := &c.Security
	files := []struct{ key, path, what string }{
		{"tls-cert-file", s.TLSCertFile, "this node's certificate"},
		{"tls-key-file", s.TLSKeyFile, "its private key"},
		{"tls-ca-file", s.TLSCAFile, "the authority that issued it"},
	}
	for _, f := range files {
		switch {
		case s.TLSMode != TLSOff && f.path == "" && c.IsSet("tls-mode"):
			return c.wrong(f.key, "it is not set, and tls-mode %s needs it: name the PEM file of %s, or set tls-mode to off", s.TLSMode, f.what)
		case s.TLSMode != TLSOff && f.path == "":
			return c.wrong(f.key, "it is not set, and TLS needs it since tls-cert-file is set: name the PEM file of %s", f.what)
		case s.TLSMode == TLSOff && f.path != "" && !c.IsSet("tls-mode"):
			return c.wrong(f.key, "it has no effect without tls-cert-file: set that as well, or remove the key")
		}
	}
	return nil
}

// validateAuth rejects tokens that would cross a network in the clear, and members whose
// connections to each other show nothing.
func (c *Config) validateAuth() error {
	n := &c.Network
	if c.Security.AuthFile == "" || c.Security.TLSMode == TLSRequired || c.Role == RoleNone && isLoopback(n.ListenAddr) && isLoopback(n.HTTPListenAddr) {
		return nil
	}
	return c.wrong("auth-file", "tokens would cross the network in the clear, since tls-mode is %s: set tls-mode to required, with tls-cert-file, tls-key-file and tls-ca-file; "+
		"or listen on this machine only, with --listen-addr 127.0.0.1:8080 and --http-listen-addr 127.0.0.1:8081, on a node of role none", c.Security.TLSMode)
}

func (c *Config) validateLog() error {
	if c.Log.AuditRequired && c.Log.Audit == "" {
		return c.wrong("audit-required", "there is no file that administrative calls could be required to be in: set audit-log, or remove the key")
	}
	l := &c.Log
	if l.Access == "" || l.Audit == "" || l.Access == CommonLog && l.Audit != CommonLog {
		return nil
	}
	access, audit := fileName(l.Access), fileName(l.Audit)
	const different = "each log renames its own files: give the two different names, of which none begins with the other"
	switch {
	case access == audit || realPath(access) == realPath(audit):
		return c.wrong("access-log", "%s is the file of audit-log as well, and %s", l.Access, different)
	case l.AuditSize > 0 && isEarlier(access, audit, l.AuditFiles):
		return c.wrong("access-log", "%s is the name of an earlier file of audit-log, and %s", l.Access, different)
	case l.AccessSize > 0 && isEarlier(audit, access, l.AccessFiles):
		return c.wrong("audit-log", "%s is the name of an earlier file of access-log, and %s", l.Audit, different)
	}
	return nil
}

// fileName returns the path of a log's file in a form that can be compared. A link at its end is not
// followed: a full file is renamed as what its path names.
func fileName(path string) string {
	return filepath.Join(realPath(filepath.Dir(path)), filepath.Base(path))
}

// isEarlier reports whether a log gives a path to one of its earlier files, of which so many are kept.
func isEarlier(path, log string, kept int) bool {
	number, is := strings.CutPrefix(path, log+".")
	n, err := strconv.Atoi(number)
	return is && err == nil && n >= 1 && n <= kept && number == strconv.Itoa(n)
}
