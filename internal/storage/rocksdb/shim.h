// The calls into RocksDB that the engine makes. The hot ones do in one crossing
// from Go to C what would otherwise take several, and copy results straight into
// memory that Go owns. Everything here is built on RocksDB's public C++ headers,
// versions 7.8 to 9.11.
//
// Conventions. Memory that Go passes in is only read or written during the
// call. A message is malloc()ed and belongs to the caller; it is NULL if the
// code is DKV_OK, or DKV_NOT_FOUND of a read. A snapshot may be NULL, which means the
// newest state.
#ifndef DKV_ROCKSDB_SHIM_H
#define DKV_ROCKSDB_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  DKV_OK = 0,
  DKV_NOT_FOUND = 1,
  DKV_CORRUPT = 2,
  DKV_NO_SPACE = 3,
  DKV_BAD_OPTION = 4,
  DKV_OTHER = 5,
  DKV_NOT_EMPTY = 6,
  DKV_UNORDERED = 7
};

typedef struct {
  int code;
  char* message;
} dkv_status;

// ---- database -------------------------------------------------------------

typedef struct dkv_db dkv_db;
typedef struct dkv_snapshot dkv_snapshot;

typedef struct dkv_options dkv_options;

typedef struct {
  int code;
  char* message;
  dkv_db* db;  // NULL after an error
} dkv_opened;

// dkv_open opens the database in dir. names are those of the column families
// that the options are for, of which the first ones are there, at least one if
// the database is; the others are created. The options stay the caller's.
dkv_opened dkv_open(const char* dir, const dkv_options* options,
                    const char* const* names, size_t there);
// dkv_family_id is the number that RocksDB gave the i-th column family.
uint32_t dkv_family_id(const dkv_db* db, size_t i);
// dkv_close closes the database. Its snapshots, iterators and loads must be
// freed before.
void dkv_close(dkv_db* db);

// dkv_crc32c continues a CRC-32C with RocksDB's function for its log, as the log does.
uint32_t dkv_crc32c(uint32_t crc, const char* data, size_t n);

// dkv_write applies a serialised write batch.
dkv_status dkv_write(dkv_db* db, const char* rep, size_t len, int sync);
// dkv_sync makes everything written before it durable.
dkv_status dkv_sync(dkv_db* db);
// dkv_seal does so and ends the log with a mark that says it.
dkv_status dkv_seal(dkv_db* db);

dkv_snapshot* dkv_snapshot_new(dkv_db* db);
void dkv_snapshot_free(dkv_db* db, dkv_snapshot* snapshot);

// dkv_checkpoint copies the database into dir without flushing memtables: the
// live logs are part of the copy.
dkv_status dkv_checkpoint(dkv_db* db, const char* dir);
// dkv_verify reads every block of every sorted file and compares its checksum.
dkv_status dkv_verify(dkv_db* db);
// dkv_flush writes the memtables into files.
dkv_status dkv_flush(dkv_db* db);
// dkv_compact flushes and compacts every column family.
dkv_status dkv_compact(dkv_db* db);

// DKV_LEVELS is how many levels of sorted files are told apart: RocksDB's
// default. Deeper ones count to the last of them.
#define DKV_LEVELS 7

// The time of fsyncs is counted in buckets. The upper bound of the first one is
// DKV_SYNC_LEAST_MICROS, each further one's is twice that of the one before, and
// the last one has none.
#define DKV_SYNC_BUCKETS 17
#define DKV_SYNC_LEAST_MICROS 50

typedef struct {
  uint64_t memtable_bytes;
  uint64_t cache_bytes;
  uint64_t sst_files;
  uint64_t sst_bytes;
  uint64_t level_files[DKV_LEVELS];
  uint64_t level_bytes[DKV_LEVELS];
  uint64_t pending_compaction_bytes;
  double compaction_seconds;
  double compactions;
  uint64_t estimated_keys;
  uint64_t write_stopped;
  // What follows was counted since the database was opened.
  uint64_t cache_hits;
  uint64_t cache_misses;
  uint64_t filter_skipped;  // reads of a file that its filter spared
  uint64_t filter_passed;   // reads of a file that its filter allowed
  uint64_t filter_found;    // of those, the ones that found the key
  uint64_t stall_micros;
  uint64_t syncs[DKV_SYNC_BUCKETS];
  uint64_t sync_micros;
} dkv_statistics;

void dkv_stats(dkv_db* db, dkv_statistics* out);
// dkv_memtable_bytes is memtable_bytes alone, at a fraction of the cost.
uint64_t dkv_memtable_bytes(dkv_db* db);

// ---- reading --------------------------------------------------------------

typedef struct dkv_pinned dkv_pinned;

typedef struct {
  int code;
  char* message;
  size_t size;       // of the value
  dkv_pinned* rest;  // set if the value did not fit: take it
} dkv_value;

// dkv_get copies a value of up to cap bytes into dst.
dkv_value dkv_get(dkv_db* db, int cf, const dkv_snapshot* snapshot,
                  const char* key, size_t key_len, char* dst, size_t cap);
// dkv_pinned_take copies the value into dst and frees v.
void dkv_pinned_take(dkv_pinned* v, char* dst);

typedef struct dkv_values dkv_values;

typedef struct {
  int code;
  char* message;
  size_t size;       // of all values together
  size_t count;      // of keys that were looked up, from the first one on
  dkv_values* rest;  // set if size is not 0: take it
} dkv_multi_value;

// DKV_MULTI_GET_BYTES is storage.MultiGetBytes.
enum { DKV_MULTI_GET_BYTES = 4 << 20 };

// dkv_multi_get looks up n keys, which lie one behind the other in keys, in one
// state. value_lens[i] becomes the length of the i-th value, -1 if the key
// is absent. Once the values have more than DKV_MULTI_GET_BYTES it looks up no
// further ones: count says how many there are.
dkv_multi_value dkv_multi_get(dkv_db* db, int cf, const dkv_snapshot* snapshot,
                              size_t n, const char* keys,
                              const uint32_t* key_lens, int64_t* value_lens);
// dkv_values_take copies the values, one behind the other, into dst and frees v.
void dkv_values_take(dkv_values* v, char* dst);

typedef struct dkv_iter dkv_iter;

enum { DKV_REVERSE = 1, DKV_KEYS_ONLY = 2, DKV_BULK = 4, DKV_HAS_END = 8 };

// A block of pairs, each of them laid out as
//   key length (4 bytes, native order), value length (4 bytes), key, value.
typedef struct {
  int code;         // an error behind the pairs, if any
  char* message;
  size_t used;      // bytes of dst that hold pairs
  size_t need;      // if used is 0: the least cap that helps
  dkv_iter* iter;   // NULL once the walk is over; it is freed then
} dkv_block;

// dkv_iter_open opens an iterator over [start, end) and fills the first block.
dkv_block dkv_iter_open(dkv_db* db, int cf, const dkv_snapshot* snapshot,
                        const char* start, size_t start_len, const char* end,
                        size_t end_len, int flags, char* dst, size_t cap);
// dkv_iter_fill fills the next block.
dkv_block dkv_iter_fill(dkv_iter* iter, char* dst, size_t cap);
void dkv_iter_free(dkv_iter* iter);

// ---- bulk load -------------------------------------------------------------

typedef struct dkv_load dkv_load;

typedef struct {
  int code;
  char* message;
  dkv_load* load;  // NULL after an error
} dkv_load_begin;

// dkv_load_open begins to fill the database, to which nothing was ever written,
// or the code is DKV_NOT_EMPTY. Its files lie in dir, which is there and empty,
// on the database's file system, until they are part of the database. The load
// must be freed before the database.
dkv_load_begin dkv_load_open(dkv_db* db, const char* dir);
// dkv_load_add takes the puts of a serialised write batch. The code is
// DKV_UNORDERED if they are not in order, or not all puts. After any error
// the load is only to be freed.
dkv_status dkv_load_add(dkv_load* load, const char* rep, size_t len);
// dkv_load_finish makes all that was added part of the database, durably and
// atomically.
dkv_status dkv_load_finish(dkv_load* load);
void dkv_load_free(dkv_load* load);

// ---- options --------------------------------------------------------------

typedef struct dkv_cache dkv_cache;
typedef struct dkv_write_budget dkv_write_budget;

// dkv_cache_new makes a cache of blocks for all databases that are opened with it.
dkv_cache* dkv_cache_new(size_t bytes);
size_t dkv_cache_used(const dkv_cache* c);
void dkv_cache_free(dkv_cache* c);

// dkv_write_budget_new makes a limit on the memtables of all databases that are
// opened with it.
dkv_write_budget* dkv_write_budget_new(size_t bytes);
size_t dkv_write_budget_used(const dkv_write_budget* b);
void dkv_write_budget_free(dkv_write_budget* b);

// What the options of an engine depend on.
typedef struct {
  size_t write_buffer_bytes;
  size_t arena_block_bytes;  // by how much a memtable grows at a time
  int max_open_files;
  int background_jobs;
  size_t engines;  // how many the process has, at least 1
} dkv_tuning;

// dkv_options_new makes the options of a database and its column families, in
// the order of the spaces. The database keeps cache and budget alive.
dkv_options* dkv_options_new(const dkv_tuning* tuning, const dkv_cache* cache,
                             const dkv_write_budget* budget);
void dkv_options_free(dkv_options* o);
// dkv_options_create says whether a missing database is to be created.
void dkv_options_create(dkv_options* o, int database);

enum { DKV_DB_SECTION = 0, DKV_CF_SECTION = 1, DKV_TABLE_SECTION = 2 };

// dkv_options_set sets one option of a section by its name; family is the index
// of a column family, for sections of one. The code is DKV_NOT_FOUND (with a
// message) if the section has no such option, and DKV_BAD_OPTION if the value is
// bad or the engine relies on another one.
dkv_status dkv_options_set(dkv_options* o, int section, size_t family,
                           const char* name, const char* value);

#ifdef __cplusplus
}
#endif

#endif
