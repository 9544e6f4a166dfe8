package config

import (
	"fmt"
	"slices"
)

// MostOfMasters bounds, in bytes, a request that masters take, since it is one entry of the Raft
// log that they send each other. On hosts that are not big they take half of that.
const MostOfMasters = 64 * MiB

// MostOfBadger bounds, in bytes, a request that standalone nodes with Badger take: they write it, and the change
// record that contains it, in one transaction.
const MostOfBadger = 11 * MiB / 2

// Notices returns warnings about a valid configuration, a sentence each: keys that
// are set to another value than their default and have no effect, requests that are
// allowed and that the node cannot take, and environment variables that were ignored.
func (c *Config) Notices() []string {
	notices := slices.Clone(c.notices)
	defaults := Default()
	for k := range newTable().all {
		// The shipped file sets most keys to their defaults: no warning is due if
		// those have no effect.
		if !c.IsSet(k.name) || k.field(c).text() == k.field(defaults).text() {
			continue
		}
		if why := c.effectless(k); why != "" {
			notices = append(notices, fmt.Sprintf("%s (%s) has no effect: %s", k.name, c.origins[k.name], why))
		}
	}
	if c.Role == RoleMaster && c.Limits.BatchSize >= MostOfMasters {
		notices = append(notices, fmt.Sprintf("max-batch-size is %v, but masters reject requests of %v and more, and of %v and more on a host with fewer than 8 cores or less than 32GiB of memory",
			c.Limits.BatchSize, Size(MostOfMasters), Size(MostOfMasters/2)))
	}
	if c.Role == RoleNone && c.Storage.Engine == Badger && c.Limits.ValueSize >= MostOfBadger {
		notices = append(notices, fmt.Sprintf("max-value-size is %v, but a standalone node with badger rejects requests of %v and more: lower it, or use --db-engine rocksdb",
			c.Limits.ValueSize, Size(MostOfBadger)))
	}
	return append(notices, c.sharedFolders()...)
}

// sharedFolders warns of folders in that of the Raft log, which are safe in it, but are not where
// anyone looks for them who moves or deletes a log by hand.
func (c *Config) sharedFolders() []string {
	s, log := &c.Storage, c.Nexus.LogDir
	if c.Role != RoleMaster && c.Role != RoleSlave {
		return nil // it has no log, or one that no promotion replaces
	}
	switch nexus := NexusFolder(s.DBFolder); {
	case LeadsThrough(log, s.DBFolder):
		return []string{fmt.Sprintf("db-folder (%s) is in nexus-log-dir (%s): give the Raft log a folder that nothing else is in", s.DBFolder, log)}
	case LeadsThrough(log, s.BackupDir):
		return []string{fmt.Sprintf("backup-dir (%s) is in nexus-log-dir (%s): give each of the two a folder that nothing else is in", s.BackupDir, log)}
	case LeadsThrough(nexus, s.BackupDir):
		return []string{fmt.Sprintf("backup-dir (%s) is in %s, which is for Raft logs: give it a folder that nothing else is in", s.BackupDir, nexus)}
	}
	return nil
}

// effectless returns why a key has no effect; "" if it has one.
func (c *Config) effectless(k *key) string {
	switch {
	case k.has(obsolete):
		return "it is accepted from old files only"
	case !k.appliesTo(c.Role):
		return fmt.Sprintf("this node has role %s, and the key is for role %s", c.Role, k.rolesText())
	case k.name == "write-buffer-size" && c.Storage.Engine == Badger:
		return "badger sizes its write buffers by itself"
	case k.name == "encryption-key-rotation" && c.Storage.EncryptionKeyFile == "":
		return "without encryption-key-file nothing is encrypted"
	}
	return ""
}
