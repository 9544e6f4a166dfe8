// The database itself: opening, closing, writing, and what is asked of it as a
// whole.
#include "shim_internal.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rocksdb/utilities/checkpoint.h"

using dkv::Rep;
using dkv::Result;
using rocksdb::ColumnFamilyHandle;
using rocksdb::ReadOptions;
using rocksdb::Status;

namespace {

// A durability mark ends every record of the write-ahead log: a log data entry
// (which RocksDB logs and otherwise ignores) of four magic bytes and the last
// sequence number that was durable when the record was written. wal.go reads
// them.
constexpr char kMark[] = {0x03, 12, 'd', 'k', 'v', 'W'};
constexpr size_t kMarkSize = sizeof(kMark) + sizeof(uint64_t);
constexpr size_t kBatchHeader = 12;

uint64_t DecodeFixed(const char* p, int bytes) {
  uint64_t v = 0;
  for (int i = 0; i < bytes; i++) {
    v |= static_cast<uint64_t>(static_cast<unsigned char>(p[i])) << (8 * i);
  }
  return v;
}

void AppendMark(const dkv_db* db, std::string* rep) {
  rep->append(kMark, sizeof(kMark));
  const uint64_t durable = db->durable.load(std::memory_order_acquire);
  for (int i = 0; i < 8; i++) {
    rep->push_back(static_cast<char>(durable >> (8 * i)));
  }
}

void AdvanceDurable(dkv_db* db, uint64_t sequence) {
  uint64_t seen = db->durable.load(std::memory_order_relaxed);
  while (seen < sequence &&
         !db->durable.compare_exchange_weak(seen, sequence,
                                            std::memory_order_release)) {
  }
}

// Write applies rep, a serialised batch, with a durability mark behind it.
Status Write(dkv_db* db, std::string rep, bool sync) {
  AppendMark(db, &rep);
  rocksdb::WriteOptions options;
  options.sync = sync;
  rocksdb::WriteBatch batch(std::move(rep));
  const Status s = db->db->Write(options, &batch);
  if (s.ok() && sync && batch.Count() > 0) {
    // RocksDB has put the batch's sequence number into its header.
    const uint64_t first = DecodeFixed(batch.Data().data(), 8);
    AdvanceDurable(db, first + batch.Count() - 1);
  }
  return s;
}

// Sync writes a batch of nothing, synced. That is DB::SyncWAL, but in line with
// the other writes and under the same rule that none follows a failed one:
// SyncWAL continues with a log that could not be written, which aborts a build with
// assertions.
Status Sync(dkv_db* db) {
  const uint64_t logged = db->db->GetLatestSequenceNumber();
  const Status s = Write(db, std::string(kBatchHeader, '\0'), true);
  if (s.ok()) AdvanceDurable(db, logged);
  return s;
}

using Families = std::vector<rocksdb::ColumnFamilyDescriptor>;

// OpenAs opens a database. RocksDB's newer versions hand it out in a unique_ptr,
// the older ones as a plain pointer: the compiler takes the first of the two
// functions that it can.
template <typename DB>
auto OpenAs(const dkv_options& o, const std::string& dir, const Families& f,
            dkv_db* db, int)
    -> decltype(DB::Open(o.db, dir, f, &db->cfs,
                         static_cast<std::unique_ptr<DB>*>(nullptr))) {
  return DB::Open(o.db, dir, f, &db->cfs, &db->db);
}

template <typename DB>
Status OpenAs(const dkv_options& o, const std::string& dir, const Families& f,
              dkv_db* db, long) {
  DB* opened = nullptr;
  const Status s = DB::Open(o.db, dir, f, &db->cfs, &opened);
  db->db.reset(opened);
  return s;
}

// Create creates column families, all in one call: RocksDB writes, syncs and reads
// back the OPTIONS file once for each call.
Status Create(const Families& missing, dkv_db* db) {
  if (missing.empty()) return Status::OK();
  std::vector<ColumnFamilyHandle*> created;
  const Status s = db->db->CreateColumnFamilies(missing, &created);
  db->cfs.insert(db->cfs.end(), created.begin(), created.end());
  return s;
}

void Close(dkv_db* db) {
  // RocksDB insists on this order.
  for (ColumnFamilyHandle* cf : db->cfs) db->db->DestroyColumnFamilyHandle(cf);
  db->cfs.clear();
  db->db.reset();
}

}  // namespace

dkv_opened dkv_open(const char* dir, const dkv_options* options,
                    const char* const* names, size_t there) {
  Families families, missing;
  for (size_t i = 0; i < options->cfs.size(); i++) {
    // A new database begins with the first one.
    Families& to = i < std::max<size_t>(there, 1) ? families : missing;
    to.emplace_back(names[i], options->cfs[i]);
  }
  auto db = std::make_unique<dkv_db>();
  dkv_options with_log = *options;
  with_log.db.info_log = dkv::NewInfoLog(options->db, dir);
  db->counts = std::make_shared<dkv::Counts>();
  with_log.db.statistics = db->counts;
  Status s = OpenAs<rocksdb::DB>(with_log, dir, families, db.get(), 0);
  if (s.ok() && !(s = Create(missing, db.get())).ok()) Close(db.get());
  if (!s.ok()) return {dkv::CodeOf(s), dkv::MessageOf(s), nullptr};
  db->read.verify_checksums = true;
  db->read.value_size_soft_limit = DKV_MULTI_GET_BYTES;
  // What recovery found is in sorted files by now.
  db->durable = db->db->GetLatestSequenceNumber();
  return {DKV_OK, nullptr, db.release()};
}

uint32_t dkv_family_id(const dkv_db* db, size_t i) { return db->cfs[i]->GetID(); }

void dkv_close(dkv_db* db) {
  Close(db);
  delete db;
}

dkv_status dkv_write(dkv_db* db, const char* rep, size_t len, int sync) {
  dkv::WithoutCounts();
  std::string marked;
  marked.reserve(len + kMarkSize);
  marked.assign(rep, len);
  return Result(Write(db, std::move(marked), sync != 0));
}

dkv_status dkv_sync(dkv_db* db) { return Result(Sync(db)); }

dkv_status dkv_seal(dkv_db* db) {
  Status s = Sync(db);
  // The mark of what the first one made durable.
  if (s.ok()) s = Sync(db);
  return Result(s);
}

dkv_snapshot* dkv_snapshot_new(dkv_db* db) {
  return reinterpret_cast<dkv_snapshot*>(
      const_cast<rocksdb::Snapshot*>(db->db->GetSnapshot()));
}

void dkv_snapshot_free(dkv_db* db, dkv_snapshot* snapshot) {
  db->db->ReleaseSnapshot(Rep(snapshot));
}

dkv_status dkv_checkpoint(dkv_db* db, const char* dir) {
  rocksdb::Checkpoint* created = nullptr;
  Status s = rocksdb::Checkpoint::Create(db->db.get(), &created);
  std::unique_ptr<rocksdb::Checkpoint> checkpoint(created);
  if (s.ok()) s = checkpoint->CreateCheckpoint(dir, UINT64_MAX);
  return Result(s);
}

dkv_status dkv_verify(dkv_db* db) {
  ReadOptions read;
  read.verify_checksums = true;
  read.fill_cache = false;
  read.readahead_size = 1 << 20;
  return Result(db->db->VerifyChecksum(read));
}

dkv_status dkv_flush(dkv_db* db) {
  return Result(db->db->Flush(rocksdb::FlushOptions(), db->cfs));
}

dkv_status dkv_compact(dkv_db* db) {
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction =
      rocksdb::BottommostLevelCompaction::kForceOptimized;
  for (ColumnFamilyHandle* cf : db->cfs) {
    const Status s = db->db->CompactRange(options, cf, nullptr, nullptr);
    if (!s.ok()) return Result(s);
  }
  return Result(Status::OK());
}

uint64_t dkv_memtable_bytes(dkv_db* db) {
  uint64_t total = 0, v = 0;
  for (ColumnFamilyHandle* cf : db->cfs) {
    if (db->db->GetIntProperty(cf, rocksdb::DB::Properties::kCurSizeAllMemTables, &v)) {
      total += v;
    }
  }
  return total;
}

namespace {

using CompactionStats = std::map<std::string, std::string>;

// Number returns a figure of the statistics, 0 if it is not among them.
double Number(const CompactionStats& of, const std::string& name) {
  const auto found = of.find(name);
  return found == of.end() ? 0 : std::strtod(found->second.c_str(), nullptr);
}

// AddFamily adds a column family's files and compactions.
void AddFamily(dkv_db* db, ColumnFamilyHandle* cf, dkv_statistics* out) {
  CompactionStats stats;
  if (!db->db->GetMapProperty(cf, rocksdb::DB::Properties::kCFStats, &stats)) return;
  out->compaction_seconds += Number(stats, "compaction.Sum.CompSec");
  out->compactions += Number(stats, "compaction.Sum.CompCount");
  for (int level = 0; level < db->db->NumberLevels(cf); level++) {
    const std::string name = "compaction.L" + std::to_string(level);
    const int as = std::min(level, DKV_LEVELS - 1);
    const auto files = static_cast<uint64_t>(Number(stats, name + ".NumFiles"));
    out->level_files[as] += files;
    out->level_bytes[as] += static_cast<uint64_t>(Number(stats, name + ".SizeBytes"));
    out->sst_files += files;
  }
}

}  // namespace

void dkv_stats(dkv_db* db, dkv_statistics* out) {
  *out = dkv_statistics{};
  using P = rocksdb::DB::Properties;
  auto sum = [db](const std::string& property) {
    uint64_t total = 0, v = 0;
    for (ColumnFamilyHandle* cf : db->cfs) {
      if (db->db->GetIntProperty(cf, property, &v)) total += v;
    }
    return total;
  };
  out->memtable_bytes = dkv_memtable_bytes(db);
  out->sst_bytes = sum(P::kTotalSstFilesSize);
  out->pending_compaction_bytes = sum(P::kEstimatePendingCompactionBytes);
  out->write_stopped = sum(P::kIsWriteStopped);
  db->db->GetIntProperty(db->cfs[0], P::kBlockCacheUsage, &out->cache_bytes);
  db->db->GetIntProperty(db->cfs[0], P::kEstimateNumKeys,
                         &out->estimated_keys);
  for (ColumnFamilyHandle* cf : db->cfs) AddFamily(db, cf, out);
  db->counts->Read(out);
}
