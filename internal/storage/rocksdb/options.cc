// The options of a database: what DKV keeps in each space, and what an ini file
// sets over it.
#include "shim_internal.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>

// Newer versions declare here what a cache can do.
#if __has_include("rocksdb/advanced_cache.h")
#include "rocksdb/advanced_cache.h"
#endif
#include "rocksdb/cache.h"
#include "rocksdb/comparator.h"
#include "rocksdb/convenience.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/table.h"
#include "rocksdb/write_buffer_manager.h"

using rocksdb::Status;

struct dkv_cache {
  std::shared_ptr<rocksdb::Cache> rep;
};
struct dkv_write_budget {
  std::shared_ptr<rocksdb::WriteBufferManager> rep;
};

namespace {

constexpr size_t kKiB = 1 << 10, kMiB = 1 << 20;

// The memory of two things is shared out to the engines of a process, since
// RocksDB's defaults cost as much for an empty database as for a full one.
constexpr size_t kFileBuffers = 4 * kMiB;   // in front of files being written
constexpr size_t kTableCacheShards = 1024;  // parts of the list of open files

// In front of the OPTIONS file, which RocksDB reads back when it has written it:
// 512 KiB if nothing is set, for a file of 20 KiB, at each of many opens at once.
// Logs and manifests are read in larger blocks, without a buffer.
constexpr size_t kOptionsBuffer = 16 * kKiB;

size_t FileBuffer(size_t engines) {
  return std::clamp(kFileBuffers / engines, 4 * kKiB, 1 * kMiB);
}

int TableCacheShardBits(size_t engines) {
  int bits = 0;
  while (bits < 6 && (engines << (bits + 1)) <= kTableCacheShards) bits++;
  return bits;
}

rocksdb::DBOptions DatabaseOptions(const dkv_tuning& t,
                                   const dkv_write_budget* budget) {
  rocksdb::DBOptions db;
  db.write_buffer_manager = budget->rep;
  db.paranoid_checks = true;
  // Open has checked before that this loses nothing durable.
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // Without a limit, a space that is seldom written keeps old logs alive and
  // recovery long.
  db.max_total_wal_size = 2 * t.write_buffer_bytes;
  // Space that is allocated ahead for a log is lost to everything else: for each
  // vBucket about as much as its write buffer.
  db.allow_fallocate = false;

  db.max_background_jobs = t.background_jobs;
  db.max_open_files = t.max_open_files;
  db.table_cache_numshardbits = TableCacheShardBits(t.engines);
  db.writable_file_max_buffer_size = FileBuffer(t.engines);
  db.log_readahead_size = kOptionsBuffer;
  // Write large files evenly, so that a log's fsync never waits for a whole one.
  db.bytes_per_sync = 1 * kMiB;
  // Files that a closing iterator kept alive are deleted in the background.
  db.avoid_unnecessary_blocking_io = true;

  db.info_log_level = rocksdb::WARN_LEVEL;
  db.keep_log_file_num = 3;
  db.max_log_file_size = 1 * kMiB;
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  return db;
}

// SpaceOptions is what all spaces have in common. write_buffer is the size at
// which what was written becomes a sorted file; block is that of a block of such
// a file before compression.
rocksdb::ColumnFamilyOptions SpaceOptions(const dkv_tuning& t,
                                          const dkv_cache* cache,
                                          size_t write_buffer, size_t block,
                                          bool filter) {
  rocksdb::ColumnFamilyOptions cf;
  cf.write_buffer_size = std::max(write_buffer, 256 * kKiB);
  cf.arena_block_size = std::min(t.arena_block_bytes, cf.write_buffer_size / 8);
  cf.max_write_buffer_number = 4;
  cf.level_compaction_dynamic_level_bytes = true;
  cf.compression = rocksdb::kLZ4Compression;
  cf.bottommost_compression = rocksdb::kZSTD;
  // The last level is rewritten again and again while data is overwritten. Level 1
  // takes up to a third less processor time than RocksDB's default, level 3, and the
  // files are at most 3 % larger (blocks of JSON, source code and random bytes).
  cf.bottommost_compression_opts.enabled = true;
  cf.bottommost_compression_opts.level = 1;

  rocksdb::BlockBasedTableOptions table;
  table.format_version = 5;
  table.block_size = block;
  table.block_cache = cache->rep;
  // Indexes and filters count against the cache, so that memory is bounded
  // whatever the size of the data. Those of level 0, which every read visits,
  // stay.
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  if (filter) table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  cf.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return cf;
}

using OptionMap = std::unordered_map<std::string, std::string>;

dkv_status BadOption(const std::string& why) {
  return {DKV_BAD_OPTION, strdup(why.c_str())};
}

// BadOption turns RocksDB's verdict on an option into ours. Unknown names are
// distinguished from bad values, which RocksDB does by text only.
dkv_status BadOption(const Status& s) {
  const std::string text = s.ToString();
  if (s.IsNotFound() || text.find("Could not find option") != text.npos) {
    return {DKV_NOT_FOUND, strdup(text.c_str())};
  }
  return BadOption(text);
}

// The three functions Broken return why an engine of DKV cannot work with the
// options, or nullptr if it can.

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
  if (o.persist_stats_to_disk) return "the folder has no place for statistics";
  if (o.allow_mmap_writes) {
    return "a write behind the end of a file would end the process";
  }
  if (o.error_if_exists) return "the engine opens what is there";
  return nullptr;
}

const char* Broken(const rocksdb::BlockBasedTableOptions& o) {
  if (o.checksum == rocksdb::kNoChecksum) return "damage must be reported";
  return nullptr;
}

// LeastWriteBuffer is the size of a memtable; RocksDB raises what is smaller.
size_t LeastWriteBuffer(const rocksdb::ColumnFamilyOptions& o) {
  return std::max(o.write_buffer_size, 64 * kKiB);
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
  if (o.compaction_style == rocksdb::kCompactionStyleFIFO) {
    return "nothing may vanish but by a write";
  }
  if (o.inplace_update_support) return "views need old values to stay";
  if (o.memtable_insert_with_hint_prefix_extractor != nullptr) {
    // A memtable keeps deletions of ranges in a list of their own, and RocksDB (7.8
    // at least) would use a hint of one list in the other, which ends the process.
    return "deletions of ranges cannot have hints";
  }
  // RocksDB ends the process if an upper level comes to nothing.
  if (o.max_bytes_for_level_base < 1 * kMiB) {
    return "a level has room for 1 MiB at least";
  }
  if (o.arena_block_size > LeastWriteBuffer(o) / 2) {
    return "a memtable would be full before it holds anything";
  }
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
  // RocksDB ends the process if a new memtable's first block fills it.
  if (changed.write_buffer_size != options->write_buffer_size) {
    changed.arena_block_size =
        std::min(changed.arena_block_size, LeastWriteBuffer(changed) / 8);
  }
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

dkv_cache* dkv_cache_new(size_t bytes) {
  return new dkv_cache{rocksdb::NewLRUCache(bytes)};
}

size_t dkv_cache_used(const dkv_cache* c) { return c->rep->GetUsage(); }

void dkv_cache_free(dkv_cache* c) { delete c; }

dkv_write_budget* dkv_write_budget_new(size_t bytes) {
  return new dkv_write_budget{
      std::make_shared<rocksdb::WriteBufferManager>(bytes)};
}

size_t dkv_write_budget_used(const dkv_write_budget* b) {
  return b->rep->memory_usage();
}

void dkv_write_budget_free(dkv_write_budget* b) { delete b; }

dkv_options* dkv_options_new(const dkv_tuning* tuning, const dkv_cache* cache,
                             const dkv_write_budget* budget) {
  const dkv_tuning& t = *tuning;
  const size_t buffer = t.write_buffer_bytes;
  auto* o = new dkv_options;
  o->db = DatabaseOptions(t, budget);
  // Data: small reads at random places of many keys. Only here is a key asked
  // for that may not be there.
  o->cfs.push_back(SpaceOptions(t, cache, buffer / 2, 8 * kKiB, true));
  // Expiry: small entries that are written and removed in about the same order.
  o->cfs.push_back(SpaceOptions(t, cache, buffer / 4, 4 * kKiB, false));
  // Changelog: written in order, read in order and trimmed from the front; large
  // blocks compress well and cost nothing.
  o->cfs.push_back(SpaceOptions(t, cache, buffer / 2, 32 * kKiB, false));
  // Its files do not overlap, so they reach the last level by being moved, as long
  // as they need not be compressed in another way there: each change would be read
  // and compressed a second time, though it is trimmed soon.
  o->cfs.back().bottommost_compression = rocksdb::kDisableCompressionOption;
  // Meta: a few keys, which every batch overwrites.
  o->cfs.push_back(
      SpaceOptions(t, cache, std::min(buffer / 4, 8 * kMiB), 4 * kKiB, false));
  o->cfs.back().compression = rocksdb::kNoCompression;
  o->cfs.back().bottommost_compression = rocksdb::kNoCompression;
  return o;
}

void dkv_options_free(dkv_options* o) { delete o; }

void dkv_options_create(dkv_options* o, int database) {
  o->db.create_if_missing = database != 0;
  // dkv_open creates them.
  o->db.create_missing_column_families = false;
}

dkv_status dkv_options_set(dkv_options* o, int section, size_t family,
                           const char* name, const char* value) {
  const OptionMap one = {{name, value}};
  rocksdb::ConfigOptions config;
  config.ignore_unknown_options = false;
  config.input_strings_escaped = true;
  switch (section) {
    case DKV_DB_SECTION:
      return SetDB(config, one, &o->db);
    case DKV_CF_SECTION:
      return SetFamily(config, one, &o->cfs[family]);
    default:
      return SetTable(config, one, &o->cfs[family]);
  }
}
