// RocksDB's checksum of the write-ahead log, as its own object files call it.
#include "shim.h"

namespace rocksdb {
namespace crc32c {
// Declared in a header that RocksDB does not install.
uint32_t Extend(uint32_t crc, const char* data, size_t n);
}  // namespace crc32c
}  // namespace rocksdb

uint32_t dkv_crc32c(uint32_t crc, const char* data, size_t n) {
  return rocksdb::crc32c::Extend(crc, data, n);
}
