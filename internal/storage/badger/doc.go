// Package badger is a storage engine over Badger v4, on disk or, for nodes
// without a disk of their own, in memory only. It needs no cgo.
//
// # Versions
//
// Badger is opened in managed mode: the engine numbers its batches 1, 2, 3...
// and commits each one as the version of that number. Reads are at the version
// that was published last, and a version is published when its batch is as
// durable as was asked for. So no reader sees a batch before it is durable, and
// readers never wait for a write under way, as they would for Badger's own
// transactions. A view or an iterator pins its version; versions older than
// the oldest pin are Badger's to discard.
//
// # Durability
//
// Badger rotates its write-ahead logs without syncing the old one, unless it
// syncs every write. A power failure could then lose the end of one log and
// keep the beginning of the next: a hole. Therefore every write is synced,
// even one that does not ask for it, which is one msync of the log a batch.
//
// # Bulk load
//
// An empty engine on disk is filled by Badger's stream writer, which builds tables
// of the last level without log and memtables. Of streams that it must not cut by
// itself, see load.go. A diskless engine has no log to save, and is filled by
// plain writes.
//
// # Large values
//
// A value above maxInline is stored in parts, beside its key, rather than in
// Badger's value log. The value log has failings that an engine cannot work
// around from outside: a failed fsync of it is only logged, a value that fails
// its checksum reads as an empty one, and in memory there is none, so that
// large values are refused. Nothing is ever written to it, so it needs no
// garbage collection either.
//
// # Corruption
//
// Badger passes over a block or a whole table that fails its checksum as if
// its keys did not exist, and replays a write-ahead log up to the first bad
// record. Therefore all tables and logs are verified before Badger sees them:
// at Open, before a checkpoint, and from time to time in between. An engine
// that has found damage answers everything with storage.ErrCorrupt. What rots
// on disk between two verifications reads as absent until the next; a shorter
// Options.VerifyInterval narrows that. A damaged last record of the newest log
// cannot be distinguished from a write that a power failure interrupted. A manifest whose end
// is missing shows after a clean stop only, see closed.go.
//
// # Encryption
//
// With a master key, tables and logs are encrypted with data keys (AES in counter mode),
// and the data keys with the master key: see encryption.go. That keeps what is on the
// disk confidential; the checksums find damage and no one who changes data on purpose.
// Whether a folder can be opened with the keys that are given is decided before
// anything in it is changed. Checkpoints are encrypted with the same master key, those
// of a diskless engine too; what that has in memory is not.
//
// # Limits
//
// A batch holds at most MaxBatchBytes and MaxBatchOps; a range delete counts
// once for each key that it finds, since Badger has none and each key is
// deleted by itself. Memory tables bound what a transaction of Badger's holds; a
// batch that is more goes into several, as a staged write does: see staged.go.
package badger
