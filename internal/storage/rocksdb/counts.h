// What is counted while an engine works.
#ifndef DKV_ROCKSDB_COUNTS_H
#define DKV_ROCKSDB_COUNTS_H

#include <array>
#include <atomic>

#include "rocksdb/statistics.h"
#include "shim.h"

namespace dkv {

// Counts takes of what RocksDB counts only what DKV reports. RocksDB's own
// object has two hundred counters and sixty histograms for each core, which is
// 60 KiB a core for every vBucket, and reads the clock for each of them. This
// one takes a kilobyte, and RocksDB reads the clock for an fsync only: it
// asks HistEnabledForType first. What is left is a virtual call for each thing
// that RocksDB would count, about twenty a read.
class Counts : public rocksdb::Statistics {
 public:
  enum {
    kCacheHits,
    kCacheMisses,
    kFilterSkipped,
    kFilterPassed,
    kFilterFound,
    kStallMicros,
    kSlots
  };

  const char* Name() const override { return "dkv"; }
  void recordTick(uint32_t ticker, uint64_t count) override;
  uint64_t getTickerCount(uint32_t ticker) const override;
  void setTickerCount(uint32_t, uint64_t) override {}
  uint64_t getAndResetTickerCount(uint32_t ticker) override {
    return getTickerCount(ticker);
  }
  void histogramData(uint32_t, rocksdb::HistogramData* const) const override {}
  bool HistEnabledForType(uint32_t type) const override;
  void recordInHistogram(uint32_t type, uint64_t micros) override;

  // Read stores what was counted.
  void Read(dkv_statistics* out) const;

 private:
  // Threads are spread over stripes, so that two of them seldom write to the
  // same cache line.
  static constexpr size_t kStripes = 8;
  struct alignas(64) Stripe {
    std::atomic<uint64_t> ticks[kSlots] = {};
  };

  Stripe& Mine();
  uint64_t Total(size_t slot) const;

  std::array<Stripe, kStripes> stripes_;
  std::atomic<uint64_t> syncs_[DKV_SYNC_BUCKETS] = {};
  std::atomic<uint64_t> sync_micros_{0};
};

}  // namespace dkv

#endif
