// What is counted while an engine works.
#include "counts.h"

#include <cstring>
#include <string>

#include "rocksdb/statistics.h"

namespace {

// Slot is where a ticker is counted, kSlots for one that is not.
size_t Slot(uint32_t ticker) {
  switch (ticker) {
    case rocksdb::BLOCK_CACHE_HIT:
      return dkv::Counts::kCacheHits;
    case rocksdb::BLOCK_CACHE_MISS:
      return dkv::Counts::kCacheMisses;
    case rocksdb::BLOOM_FILTER_USEFUL:
      return dkv::Counts::kFilterSkipped;
    case rocksdb::BLOOM_FILTER_FULL_POSITIVE:
      return dkv::Counts::kFilterPassed;
    case rocksdb::BLOOM_FILTER_FULL_TRUE_POSITIVE:
      return dkv::Counts::kFilterFound;
    case rocksdb::STALL_MICROS:
      return dkv::Counts::kStallMicros;
    default:
      return dkv::Counts::kSlots;
  }
}

size_t NextStripe() {
  static std::atomic<size_t> next{0};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

namespace dkv {

Counts::Stripe& Counts::Mine() {
  thread_local const size_t mine = NextStripe();
  return stripes_[mine % kStripes];
}

void Counts::recordTick(uint32_t ticker, uint64_t count) {
  const size_t slot = Slot(ticker);
  if (slot < kSlots) Mine().ticks[slot].fetch_add(count, std::memory_order_relaxed);
}

uint64_t Counts::getTickerCount(uint32_t ticker) const {
  const size_t slot = Slot(ticker);
  return slot < kSlots ? Total(slot) : 0;
}

uint64_t Counts::Total(size_t slot) const {
  uint64_t total = 0;
  for (const Stripe& s : stripes_) {
    total += s.ticks[slot].load(std::memory_order_relaxed);
  }
  return total;
}

bool Counts::HistEnabledForType(uint32_t type) const {
  return type == rocksdb::WAL_FILE_SYNC_MICROS;
}

void Counts::recordInHistogram(uint32_t type, uint64_t micros) {
  if (type != rocksdb::WAL_FILE_SYNC_MICROS) return;
  size_t bucket = 0;
  while (bucket < DKV_SYNC_BUCKETS - 1 &&
         micros > (static_cast<uint64_t>(DKV_SYNC_LEAST_MICROS) << bucket)) {
    bucket++;
  }
  syncs_[bucket].fetch_add(1, std::memory_order_relaxed);
  sync_micros_.fetch_add(micros, std::memory_order_relaxed);
}

void Counts::Read(dkv_statistics* out) const {
  out->cache_hits = Total(kCacheHits);
  out->cache_misses = Total(kCacheMisses);
  out->filter_skipped = Total(kFilterSkipped);
  out->filter_passed = Total(kFilterPassed);
  out->filter_found = Total(kFilterFound);
  out->stall_micros = Total(kStallMicros);
  for (size_t i = 0; i < DKV_SYNC_BUCKETS; i++) {
    out->syncs[i] = syncs_[i].load(std::memory_order_relaxed);
  }
  out->sync_micros = sync_micros_.load(std::memory_order_relaxed);
}

}  // namespace dkv
