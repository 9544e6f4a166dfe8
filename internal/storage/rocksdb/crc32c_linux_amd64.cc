// RocksDB's checksum of the write-ahead log, with the processor's instruction for it. Debian
// builds RocksDB for every amd64 processor, and its own then looks bytes up in tables, which is
// several times as slow. The linker (--wrap, in native.go) leads calls of crc32c::Extend from
// other object files here. A RocksDB that is linked dynamically keeps its own.
#include <nmmintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

extern "C" {
// rocksdb::crc32c::Extend(uint32_t, const char*, size_t) as the compiler names it, with what the
// linker puts in front.
uint32_t __real__ZN7rocksdb6crc32c6ExtendEjPKcm(uint32_t crc, const char* data, size_t n);
uint32_t __wrap__ZN7rocksdb6crc32c6ExtendEjPKcm(uint32_t crc, const char* data, size_t n);
}

namespace {

__attribute__((target("sse4.2"))) uint32_t Extend(uint32_t crc, const char* data, size_t n) {
  uint64_t state = ~crc;
  for (; n >= sizeof state; data += sizeof state, n -= sizeof state) {
    uint64_t word;
    memcpy(&word, data, sizeof word);
    state = _mm_crc32_u64(state, word);
  }
  uint32_t rest = static_cast<uint32_t>(state);
  for (; n > 0; data++, n--) rest = _mm_crc32_u8(rest, static_cast<uint8_t>(*data));
  return ~rest;
}

bool Supported() {
  __builtin_cpu_init();  // RocksDB may have constructors that run before the compiler's
  return __builtin_cpu_supports("sse4.2");
}

}  // namespace

uint32_t __wrap__ZN7rocksdb6crc32c6ExtendEjPKcm(uint32_t crc, const char* data, size_t n) {
  static const bool supported = Supported();
  return supported ? Extend(crc, data, n) : __real__ZN7rocksdb6crc32c6ExtendEjPKcm(crc, data, n);
}
