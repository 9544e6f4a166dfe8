// Package backups serves backups and restores of a whole database, within the folder that backup-dir names. The
// state of one vBucket is backed up and restored by its replica, in the format of package backup; what is done
// here is what concerns several of them.
//
// Any member can be asked for a backup: it copies its own state, one vBucket after the other, each at one index.
// The vBuckets of a backup are therefore not all of the same moment. They must not be of different restores either,
// of which there are two cases:
//
//   - A restore replaces vBuckets while they are copied. The histories of all vBuckets are compared before and after
//     that, and the backup is given up if they differ.
//   - Another member's restore is between two vBuckets, where nothing changes for a while. All vBuckets that one
//     restore has replaced have its id in their histories (see package era), so the backup is made, and its
//     response says what is in it.
//
// A restore replaces one vBucket after the other, each through its log, and those that are replaced accept writes.
// So all that can be checked is checked before the first one: that the folder is inside backup-dir, that the backup
// has the vBuckets that are here, and every checksum. An error after that says how many vBuckets are done and that
// the outcome is unknown, since a repeated restore replaces these once more.
package backups
