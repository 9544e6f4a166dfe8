// Package rocksdb is the storage engine on RocksDB, through a C++ shim of its
// own, which compiles against RocksDB 7.8 to 9.11.
//
// # Layout
//
// The four spaces are column families: data is RocksDB's "default" (id 0),
// then "expiry" (1), "changelog" (2) and "meta" (3). A storage.Batch is already
// laid out as RocksDB's write batch with these ids, so Open insists on them
// and Write hands the bytes over in one call.
//
// # Crossing into C
//
// A call from Go into C costs some tens of nanoseconds, and the binding grocksdb
// makes several for each value it returns. The shim has a call for each thing
// that the engine does: a Get copies the value into Go memory within the one call
// that finds it (read.cc), a MultiGet looks all keys up at once, and an iterator
// packs pairs into a block, so that walking costs a call per block instead of
// three per pair. db.cc opens, writes and closes, options.cc holds what DKV sets,
// infolog.cc takes RocksDB's messages, load.cc fills an empty engine.
//
// The shim owns every handle that it works on. grocksdb is used for what it
// offers in public, a look at a database before it is opened: which column
// families there are, and where replaying the log would end.
//
// # Many engines in one process
//
// What an empty database costs is multiplied by the number of vBuckets, up to
// 1 024. Memory is told that number, and options.cc divides among the engines
// what RocksDB would take for each: buffers of files being written and the shards
// of the list of open files. The info log has no buffer, and its file is created
// by the first message.
//
// # Bulk load
//
// An empty engine is filled past log and memtables: load.cc writes sorted files,
// in a folder of their own, and Finish ingests all of them in one step, into the
// last level, by moving them. They are compressed as a flush does it (LZ4), not
// as the last level is otherwise (ZSTD), which takes longer.
// Compaction compresses again what it rewrites.
//
// # The write-ahead log after a crash
//
// RocksDB replays the log up to the first record that is damaged or missing
// (point-in-time recovery). That is right for the tail of a log: what was not
// synced may be torn by a power failure, even with sound records behind the
// gap, since pages reach the disk in any order. It would be wrong for a bit that
// flips in the middle: everything acknowledged behind it would silently be gone.
// To tell the two apart, every record of the log carries the last sequence
// number that was durable when it was written. Before Open lets RocksDB replay
// a log with damage in it, it compares where the replay would end with the
// greatest such number; if durable writes would be lost, it returns
// storage.ErrCorrupt and leaves the folder as it is. Close seals the log with a
// last number. A gap that the replay would go beyond is storage.ErrCorrupt too, unless it is in a
// log that is obsolete: those are not replayed. What remains undetectable is damage to the very last record after
// a crash, which looks like, and most likely is, a torn one.
//
// RocksDB's own alternative, kTolerateCorruptedTailRecords, fails both ways: it
// refuses a log whose last page was torn, and takes a flipped length in the last
// 32 KiB for the end of the log. Its track_and_verify_wals_in_manifest has been
// known, in this version, to report logs as missing that are not.
//
// A file that is missing, or a manifest that ends early, is to RocksDB a database with fewer
// keys. Those that there are at Open and at Close are listed, see inventory.go: a copy that was
// cut short, and logs that were deleted, are storage.ErrCorrupt. After a crash the manifest names
// the first log that is needed and those since which spaces were flushed; one between
// others shows by the sequence numbers, which go on from log to log. That the newest log is
// missing is not noticed if the first flush since its beginning had not ended.
//
// # Raw options
//
// Options.INI names a file of RocksDB's own options, in the form in which
// RocksDB writes its OPTIONS files:
//
//	[DBOptions]
//	  max_background_jobs=4
//	[CFOptions "default"]
//	  write_buffer_size=128M
//	[TableOptions/BlockBasedTable "default"]
//	  block_size=16K
//
// The name of a column family is "default" (the data), "expiry", "changelog" or
// "meta". Lines before the first section apply wherever RocksDB knows the
// option: to the database, else to all spaces, else to all spaces' tables. A '#'
// begins a comment. Names, values and units are RocksDB's own; an unknown name,
// a bad value or a malformed line is an error that names the line.
//
// What the engine rests on cannot be changed: the order of keys, checksums,
// recovery, the order in which writes become visible, the block cache (which has
// a setting of its own), the table format. create_if_missing and
// create_missing_column_families have no effect. Options of single calls
// (rocksdb::ReadOptions, WriteOptions) and objects that have no textual form,
// such as a custom comparator or listener, cannot be set.
package rocksdb
