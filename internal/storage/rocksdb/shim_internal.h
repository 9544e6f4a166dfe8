// What the parts of the shim have in common.
#ifndef DKV_ROCKSDB_SHIM_INTERNAL_H
#define DKV_ROCKSDB_SHIM_INTERNAL_H

#include "counts.h"
#include "shim.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "rocksdb/db.h"
#include "rocksdb/options.h"
#include "rocksdb/perf_level.h"

struct dkv_options {
  rocksdb::DBOptions db;
  std::vector<rocksdb::ColumnFamilyOptions> cfs;
};

struct dkv_db {
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> cfs;
  rocksdb::ReadOptions read;
  std::shared_ptr<dkv::Counts> counts;
  // The last sequence number that is known to be durable.
  std::atomic<uint64_t> durable{0};
};

namespace dkv {

inline int CodeOf(const rocksdb::Status& s) {
  if (s.ok()) return DKV_OK;
  if (s.IsNotFound()) return DKV_NOT_FOUND;
  if (s.IsCorruption()) return DKV_CORRUPT;
  if (s.IsNoSpace()) return DKV_NO_SPACE;
  return DKV_OTHER;
}

inline char* MessageOf(const rocksdb::Status& s) {
  if (s.ok() || s.IsNotFound()) return nullptr;
  return strdup(s.ToString().c_str());
}

inline dkv_status Result(const rocksdb::Status& s) {
  return {CodeOf(s), MessageOf(s)};
}

inline const rocksdb::Snapshot* Rep(const dkv_snapshot* s) {
  return reinterpret_cast<const rocksdb::Snapshot*>(s);
}

// WithoutCounts ends RocksDB's own counts of what a call does, which are nowhere
// read, for the calling thread: one of them is of every comparison of two keys.
// Go may enter by any thread, and RocksDB's default is to count.
inline void WithoutCounts() {
  rocksdb::SetPerfLevel(rocksdb::PerfLevel::kDisable);
}

// NewInfoLog is where a database in dir writes its messages, or nullptr if the
// options ask for a log as only RocksDB writes it.
std::shared_ptr<rocksdb::Logger> NewInfoLog(const rocksdb::DBOptions& options,
                                            const std::string& dir);

}  // namespace dkv

#endif
