// Reading: single keys, many keys at once, and walks in blocks of pairs.
#include "shim_internal.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "rocksdb/snapshot.h"

using dkv::CodeOf;
using dkv::MessageOf;
using dkv::Rep;
using rocksdb::PinnableSlice;
using rocksdb::ReadOptions;
using rocksdb::Slice;
using rocksdb::Status;

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

namespace {

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

}  // namespace

dkv_value dkv_get(dkv_db* db, int cf, const dkv_snapshot* snapshot,
                  const char* key, size_t key_len, char* dst, size_t cap) {
  dkv::WithoutCounts();
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
  dkv::WithoutCounts();
  ReadOptions scratch;
  std::vector<Slice> slices(n);
  std::vector<Status> statuses(n);
  auto found = std::make_unique<dkv_values>();
  found->values.resize(n);
  for (size_t i = 0; i < n; i++) {
    slices[i] = Slice(keys, key_lens[i]);
    keys += key_lens[i];
  }
  const ReadOptions& read = ReadAt(db, snapshot, &scratch);
  db->db->MultiGet(read, db->cfs[cf], n, slices.data(), found->values.data(),
                   statuses.data());
  dkv_multi_value result = {DKV_OK, nullptr, 0, 0, nullptr};
  // RocksDB stops at the limit, in an order of its own. Then the keys are read
  // again one by one, up to the limit and from one state.
  const bool cut = std::any_of(statuses.begin(), statuses.end(),
                               [](const Status& s) { return s.IsAborted(); });
  ReadOptions again;
  std::unique_ptr<rocksdb::ManagedSnapshot> pinned;
  if (cut) {
    again = read;
    if (snapshot == nullptr) {
      pinned = std::make_unique<rocksdb::ManagedSnapshot>(db->db.get());
      again.snapshot = pinned->snapshot();
    }
    for (PinnableSlice& value : found->values) value.Reset();
  }
  for (size_t i = 0; i < n && result.size <= DKV_MULTI_GET_BYTES; i++) {
    if (cut) {
      statuses[i] =
          db->db->Get(again, db->cfs[cf], slices[i], &found->values[i]);
    }
    result.count = i + 1;
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
  found->values.resize(result.count);
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
  dkv::WithoutCounts();
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
  dkv::WithoutCounts();
  return Fill(iter, dst, cap);
}

void dkv_iter_free(dkv_iter* iter) { delete iter; }
