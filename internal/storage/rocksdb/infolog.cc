// RocksDB's own messages, warnings and worse: the file LOG in the database's
// folder.
#include "shim_internal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <string>
#include <utility>

#include "rocksdb/env.h"

namespace {

// InfoLog writes to a file that the first message opens, without a buffer.
// RocksDB's own logger takes 100 KB for a database that has nothing to say:
// a buffer, and the options, which the OPTIONS file holds as well.
class InfoLog : public rocksdb::Logger {
 public:
  InfoLog(rocksdb::InfoLogLevel level, std::string path, size_t limit)
      : Logger(level), path_(std::move(path)), limit_(limit) {}

  ~InfoLog() override {
    if (fd_ >= 0) close(fd_);
  }

  using Logger::Logv;
  void Logv(const char* format, va_list ap) override {
    char line[4096];
    size_t n = Stamp(line, sizeof(line));
    const int size = vsnprintf(line + n, sizeof(line) - n - 1, format, ap);
    if (size < 0) return;
    n = std::min(n + size, sizeof(line) - 2);
    if (line[n - 1] != '\n') line[n++] = '\n';
    std::lock_guard<std::mutex> lock(mu_);
    if (!Open()) return;
    // A message that cannot be written is lost: there is no place for it then.
    if (write(fd_, line, n) > 0) size_ += n;
  }

  // The options, and what else RocksDB writes on top of each file.
  void LogHeader(const char*, va_list) override {}

 private:
  // Stamp writes the time, as RocksDB writes it, and returns its length.
  static size_t Stamp(char* dst, size_t cap) {
    timeval now;
    gettimeofday(&now, nullptr);
    tm parts;
    localtime_r(&now.tv_sec, &parts);
    const size_t n = strftime(dst, cap, "%Y/%m/%d-%H:%M:%S", &parts);
    return n + snprintf(dst + n, cap - n, ".%06ld ", static_cast<long>(now.tv_usec));
  }

  // Open makes sure that there is an open file with room in it. A full one is
  // renamed; RocksDB removes the oldest of these.
  bool Open() {
    if (fd_ >= 0 && size_ < limit_) return true;
    if (fd_ < 0 && (fd_ = Create()) < 0) return false;
    struct stat info;
    size_ = fstat(fd_, &info) == 0 ? info.st_size : 0;
    if (size_ < limit_) return true;
    timeval now;
    gettimeofday(&now, nullptr);
    const auto micros = static_cast<long long>(now.tv_sec) * 1000000 + now.tv_usec;
    rename(path_.c_str(), (path_ + ".old." + std::to_string(micros)).c_str());
    close(fd_);
    size_ = 0;
    fd_ = Create();
    return fd_ >= 0;
  }

  int Create() const {
    return open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  }

  const std::string path_;
  const size_t limit_;
  std::mutex mu_;
  int fd_ = -1;
  size_t size_ = 0;
};

}  // namespace

std::shared_ptr<rocksdb::Logger> dkv::NewInfoLog(
    const rocksdb::DBOptions& options, const std::string& dir) {
  const rocksdb::DBOptions defaults;
  if (options.info_log_level < rocksdb::WARN_LEVEL ||
      options.max_log_file_size == 0 || !options.db_log_dir.empty() ||
      options.log_file_time_to_roll != defaults.log_file_time_to_roll) {
    return nullptr;
  }
  return std::make_shared<InfoLog>(options.info_log_level, dir + "/LOG",
                                   options.max_log_file_size);
}
