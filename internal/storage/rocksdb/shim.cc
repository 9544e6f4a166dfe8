#include "shim_internal.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "rocksdb/comparator.h"
#include "rocksdb/convenience.h"
#include "rocksdb/db.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"
#include "rocksdb/utilities/checkpoint.h"
#include "rocksdb/write_buffer_manager.h"

using dkv::CodeOf;
using dkv::MessageOf;
using dkv::Result;
using rocksdb::ColumnFamilyHandle;
using rocksdb::PinnableSlice;
using rocksdb::ReadOptions;
using rocksdb::Slice;
using rocksdb::Status;

// What RocksDB's C API hides behind its opaque types (db/c.cc there).
struct rocksdb_t {
  rocksdb::DB* rep;
};
struct rocksdb_column_family_handle_t {
  ColumnFamilyHandle* rep;
};
struct rocksdb_options_t {
  rocksdb::Options rep;
};

struct dkv_pinned {
  PinnableSlice value;
};
struct dkv_values {
  std::vector<PinnableSlice> values;
};
struct dkv_iter {
  std::string start, end;  // what the bounds below point at
  Slice lower, upper;
  std::unique_ptr<rocksdb::Iterator> it;
  bool reverse, keys_only;
};
struct dkv_write_budget {
  std::shared_ptr<rocksdb::WriteBufferManager> rep;
};

namespace {

const rocksdb::Snapshot* Rep(const dkv_snapshot* s) {
  return reinterpret_cast<const rocksdb::Snapshot*>(s);
}

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
// SyncWAL goes on to a log that could not be written, which aborts a build with
// assertions.
Status Sync(dkv_db* db) {
  const uint64_t logged = db->db->GetLatestSequenceNumber();
  const Status s = Write(db, std::string(kBatchHeader, '\0'), true);
  if (s.ok()) AdvanceDurable(db, logged);
  return s;
}

// ReadAt is db's read options for a state. Copying them is avoided for the
// newest state, which is the hot one.
const ReadOptions& ReadAt(const dkv_db* db, const dkv_snapshot* snapshot,
                          ReadOptions* scratch) {
  if (snapshot == nullptr) return db->read;
  *scratch = db->read;
  scratch->snapshot = Rep(snapshot);
  return *scratch;
}

constexpr size_t kPairHeader = 2 * sizeof(uint32_t);

// Fill packs pairs into dst until it is full or the walk is over, and frees
// iter in the latter case.
dkv_block Fill(dkv_iter* iter, char* dst, size_t cap) {
  dkv_block block = {DKV_OK, nullptr, 0, 0, iter};
  rocksdb::Iterator* it = iter->it.get();
  while (it->Valid()) {
    const Slice key = it->key();
    const Slice value = iter->keys_only ? Slice() : it->value();
    const size_t size = kPairHeader + key.size() + value.size();
    if (size > cap - block.used) {
      if (block.used == 0) block.need = size;
      return block;
    }
    const uint32_t lens[2] = {static_cast<uint32_t>(key.size()),
                              static_cast<uint32_t>(value.size())};
    char* p = dst + block.used;
    memcpy(p, lens, kPairHeader);
    memcpy(p + kPairHeader, key.data(), key.size());
    if (!value.empty()) {
      memcpy(p + kPairHeader + key.size(), value.data(), value.size());
    }
    block.used += size;
    if (iter->reverse) {
      it->Prev();
    } else {
      it->Next();
    }
  }
  const Status s = it->status();
  block.code = CodeOf(s);
  block.message = MessageOf(s);
  block.iter = nullptr;
  delete iter;
  return block;
}

// ---- options

using OptionMap = std::unordered_map<std::string, std::string>;

dkv_status BadOption(const std::string& why) {
  return {DKV_BAD_OPTION, strdup(why.c_str())};
}

// BadOption turns RocksDB's verdict on an option into ours. Unknown names are
// told from bad values, which RocksDB does by text only.
dkv_status BadOption(const Status& s) {
  const std::string text = s.ToString();
  if (s.IsNotFound() || text.find("Could not find option") != text.npos) {
    return {DKV_NOT_FOUND, strdup(text.c_str())};
  }
  return BadOption(text);
}

// The three functions Broken return what an engine of DKV cannot do without,
// where options lack it, and nullptr where they are fine.

const char* Broken(const rocksdb::DBOptions& o) {
  if (o.unordered_write) return "views need writes to become visible in order";
  if (o.manual_wal_flush) return "a write must survive the end of the process";
  if (o.wal_recovery_mode != rocksdb::WALRecoveryMode::kPointInTimeRecovery ||
      o.recycle_log_file_num != 0 ||
      o.wal_compression != rocksdb::kNoCompression) {
    return "recovery checks the log on its own";
  }
  if (o.best_efforts_recovery) return "missing files may not be passed over";
  if (o.track_and_verify_wals_in_manifest) {
    return "this version then misses logs that are there";
  }
  if (o.avoid_flush_during_recovery) {
    return "what recovery found must be durable";
  }
  if (!o.paranoid_checks) return "damage must be reported";
  if (!o.wal_dir.empty()) return "the log lies with the data";
  if (o.error_if_exists) return "the engine opens what is there";
  return nullptr;
}

const char* Broken(const rocksdb::BlockBasedTableOptions& o) {
  if (o.checksum == rocksdb::kNoChecksum) return "damage must be reported";
  return nullptr;
}

const char* Broken(const rocksdb::ColumnFamilyOptions& o) {
  if (o.comparator != rocksdb::BytewiseComparator()) {
    return "keys are ordered by their bytes";
  }
  if (o.merge_operator != nullptr) return "the engine has none";
  if (o.prefix_extractor != nullptr) return "iteration is by ranges";
  if (o.compaction_filter != nullptr || o.compaction_filter_factory != nullptr) {
    return "nothing may vanish but by a write";
  }
  if (o.inplace_update_support) return "views need old values to stay";
  const auto* table =
      o.table_factory->GetOptions<rocksdb::BlockBasedTableOptions>();
  if (table == nullptr) return "the table format is BlockBasedTable";
  return Broken(*table);
}

dkv_status Accept(const char* broken) {
  if (broken == nullptr) return {DKV_OK, nullptr};
  return BadOption(std::string("it cannot be changed: ") + broken);
}

dkv_status SetDB(const rocksdb::ConfigOptions& config, const OptionMap& one,
                 rocksdb::DBOptions* options) {
  rocksdb::DBOptions changed;
  const Status s = rocksdb::GetDBOptionsFromMap(config, *options, one, &changed);
  if (!s.ok()) return BadOption(s);
  const char* broken = Broken(changed);
  if (broken == nullptr) *options = changed;
  return Accept(broken);
}

dkv_status SetFamily(const rocksdb::ConfigOptions& config, const OptionMap& one,
                     rocksdb::ColumnFamilyOptions* options) {
  rocksdb::ColumnFamilyOptions changed;
  const Status s =
      rocksdb::GetColumnFamilyOptionsFromMap(config, *options, one, &changed);
  if (!s.ok()) return BadOption(s);
  const char* broken = Broken(changed);
  if (broken == nullptr) *options = changed;
  return Accept(broken);
}

dkv_status SetTable(const rocksdb::ConfigOptions& config, const OptionMap& one,
                    rocksdb::ColumnFamilyOptions* options) {
  const auto* table =
      options->table_factory->GetOptions<rocksdb::BlockBasedTableOptions>();
  rocksdb::BlockBasedTableOptions changed;
  const Status s =
      rocksdb::GetBlockBasedTableOptionsFromMap(config, *table, one, &changed);
  if (!s.ok()) return BadOption(s);
  const char* broken = Broken(changed);
  if (changed.block_cache != table->block_cache) {
    broken = "the block cache has a setting of its own";
  }
  if (broken == nullptr) {
    options->table_factory.reset(rocksdb::NewBlockBasedTableFactory(changed));
  }
  return Accept(broken);
}

}  // namespace

// ---- database -------------------------------------------------------------

dkv_db* dkv_db_new(rocksdb_t* db, rocksdb_column_family_handle_t* const* cfs,
                   size_t n) {
  auto* d = new dkv_db;
  d->db = db->rep;
  for (size_t i = 0; i < n; i++) d->cfs.push_back(cfs[i]->rep);
  d->read.verify_checksums = true;
  // What recovery found is in sorted files by now.
  d->durable = d->db->GetLatestSequenceNumber();
  return d;
}

void dkv_db_free(dkv_db* db) { delete db; }

dkv_status dkv_write(dkv_db* db, const char* rep, size_t len, int sync) {
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
  Status s = rocksdb::Checkpoint::Create(db->db, &created);
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
  db->db->GetIntProperty(db->cfs[0], P::kBlockCacheUsage, &out->cache_bytes);
  db->db->GetIntProperty(db->cfs[0], P::kEstimateNumKeys,
                         &out->estimated_keys);
  for (ColumnFamilyHandle* cf : db->cfs) {
    std::string files;
    for (int level = 0; level < db->db->NumberLevels(cf); level++) {
      if (db->db->GetProperty(
              cf, P::kNumFilesAtLevelPrefix + std::to_string(level), &files)) {
        out->sst_files += std::strtoull(files.c_str(), nullptr, 10);
      }
    }
    std::map<std::string, std::string> compaction;
    if (db->db->GetMapProperty(cf, P::kCFStats, &compaction)) {
      out->compaction_seconds +=
          std::strtod(compaction["compaction.Sum.CompSec"].c_str(), nullptr);
      out->compactions +=
          std::strtod(compaction["compaction.Sum.CompCount"].c_str(), nullptr);
    }
  }
}

// ---- reading --------------------------------------------------------------

dkv_value dkv_get(dkv_db* db, int cf, const dkv_snapshot* snapshot,
                  const char* key, size_t key_len, char* dst, size_t cap) {
  ReadOptions scratch;
  PinnableSlice value;
  const Status s = db->db->Get(ReadAt(db, snapshot, &scratch), db->cfs[cf],
                               Slice(key, key_len), &value);
  if (!s.ok()) return {CodeOf(s), MessageOf(s), 0, nullptr};
  const size_t size = value.size();
  if (size <= cap) {
    memcpy(dst, value.data(), size);
    return {DKV_OK, nullptr, size, nullptr};
  }
  return {DKV_OK, nullptr, size, new dkv_pinned{std::move(value)}};
}

void dkv_pinned_take(dkv_pinned* v, char* dst) {
  memcpy(dst, v->value.data(), v->value.size());
  delete v;
}

dkv_multi_value dkv_multi_get(dkv_db* db, int cf, const dkv_snapshot* snapshot,
                              size_t n, const char* keys,
                              const uint32_t* key_lens, int64_t* value_lens) {
  ReadOptions scratch;
  std::vector<Slice> slices(n);
  std::vector<Status> statuses(n);
  auto found = std::make_unique<dkv_values>();
  found->values.resize(n);
  for (size_t i = 0; i < n; i++) {
    slices[i] = Slice(keys, key_lens[i]);
    keys += key_lens[i];
  }
  db->db->MultiGet(ReadAt(db, snapshot, &scratch), db->cfs[cf], n,
                   slices.data(), found->values.data(), statuses.data());
  dkv_multi_value result = {DKV_OK, nullptr, 0, nullptr};
  for (size_t i = 0; i < n; i++) {
    const Status& s = statuses[i];
    if (s.IsNotFound()) {
      value_lens[i] = -1;
      found->values[i].Reset();
      continue;
    }
    if (!s.ok()) {
      result.code = CodeOf(s);
      result.message = MessageOf(s);
      return result;
    }
    value_lens[i] = static_cast<int64_t>(found->values[i].size());
    result.size += found->values[i].size();
  }
  if (result.size > 0) result.rest = found.release();
  return result;
}

void dkv_values_take(dkv_values* v, char* dst) {
  for (const PinnableSlice& value : v->values) {
    if (value.empty()) continue;
    memcpy(dst, value.data(), value.size());
    dst += value.size();
  }
  delete v;
}

dkv_block dkv_iter_open(dkv_db* db, int cf, const dkv_snapshot* snapshot,
                        const char* start, size_t start_len, const char* end,
                        size_t end_len, int flags, char* dst, size_t cap) {
  auto* iter = new dkv_iter;
  iter->reverse = (flags & DKV_REVERSE) != 0;
  iter->keys_only = (flags & DKV_KEYS_ONLY) != 0;
  ReadOptions options = db->read;
  options.snapshot = Rep(snapshot);
  options.total_order_seek = true;
  if (start_len > 0) {
    iter->start.assign(start, start_len);
    iter->lower = Slice(iter->start);
    options.iterate_lower_bound = &iter->lower;
  }
  if ((flags & DKV_HAS_END) != 0) {
    iter->end.assign(end, end_len);
    iter->upper = Slice(iter->end);
    options.iterate_upper_bound = &iter->upper;
  }
  if ((flags & DKV_BULK) != 0) {
    // RocksDB reads ahead by itself, the more the longer the walk is, and at most
    // 256 KiB. A fixed readahead would be read of each file that the walk may
    // touch, even if the walk ends after a few pairs, as that of a snapshot's
    // chunk does.
    options.fill_cache = false;
  }
  iter->it.reset(db->db->NewIterator(options, db->cfs[cf]));
  if (iter->reverse) {
    iter->it->SeekToLast();
  } else if (start_len > 0) {
    iter->it->Seek(iter->lower);
  } else {
    iter->it->SeekToFirst();
  }
  return Fill(iter, dst, cap);
}

dkv_block dkv_iter_fill(dkv_iter* iter, char* dst, size_t cap) {
  return Fill(iter, dst, cap);
}

void dkv_iter_free(dkv_iter* iter) { delete iter; }

// ---- options --------------------------------------------------------------

dkv_write_budget* dkv_write_budget_new(size_t bytes) {
  return new dkv_write_budget{
      std::make_shared<rocksdb::WriteBufferManager>(bytes)};
}

size_t dkv_write_budget_used(const dkv_write_budget* b) {
  return b->rep->memory_usage();
}

void dkv_write_budget_free(dkv_write_budget* b) { delete b; }

void dkv_options_set_write_budget(rocksdb_options_t* options,
                                  const dkv_write_budget* b) {
  options->rep.write_buffer_manager = b->rep;
}

dkv_status dkv_options_set(rocksdb_options_t* options, int section,
                           const char* name, const char* value) {
  const std::unordered_map<std::string, std::string> one = {{name, value}};
  rocksdb::ConfigOptions config;
  config.ignore_unknown_options = false;
  config.input_strings_escaped = true;
  switch (section) {
    case DKV_DB_SECTION:
      return SetDB(config, one, &options->rep);
    case DKV_CF_SECTION:
      return SetFamily(config, one, &options->rep);
    default:
      return SetTable(config, one, &options->rep);
  }
}
