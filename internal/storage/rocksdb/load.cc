// Filling an empty database: sorted files are written beside it, and become part
// of its last level in one step.
#include "shim_internal.h"

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rocksdb/sst_file_writer.h"
#include "rocksdb/write_batch.h"

using dkv::Result;
using rocksdb::ColumnFamilyHandle;
using rocksdb::Slice;
using rocksdb::SstFileWriter;
using rocksdb::Status;

namespace {

// Unordered is a status of the load's own making; RocksDB gives it out nowhere
// here.
Status Unordered(const char* why) { return Status::Aborted(why); }

}  // namespace

struct dkv_load : public rocksdb::WriteBatch::Handler {
  dkv_load(dkv_db* db, std::string dir)
      : db_(db), dir_(std::move(dir)), files_(db->cfs.size()) {}

  Status Add(const char* rep, size_t len) {
    const rocksdb::WriteBatch batch(std::string(rep, len));
    Status s = batch.Iterate(this);
    if (!s.ok() || writer_ == nullptr) return s;
    last_.assign(newest_.data(), newest_.size());
    newest_ = last_;  // it must not point into the batch
    const uint64_t size = writer_->FileSize();
    idle_ = size == size_ ? idle_ + len : 0;
    size_ = size;
    // A file may become too long by one batch. One that grows no longer has
    // failed, which SstFileWriter reports only when the file is finished.
    return size >= limit_ || idle_ >= kIdle ? Complete() : s;
  }

  Status Finish() {
    Status s = Complete();
    if (s.ok()) s = Completed();
    if (!s.ok()) return s;
    std::vector<rocksdb::IngestExternalFileArg> args;
    for (size_t cf = 0; cf < files_.size(); cf++) {
      if (files_[cf].empty()) continue;
      rocksdb::IngestExternalFileArg arg;
      arg.column_family = db_->cfs[cf];
      arg.external_files = files_[cf];
      arg.options.move_files = true;
      arg.options.write_global_seqno = false;
      // The database is empty: there is nothing that they could overwrite.
      arg.options.allow_global_seqno = false;
      arg.options.allow_blocking_flush = false;
      args.push_back(std::move(arg));
    }
    return args.empty() ? s : db_->db->IngestExternalFiles(args);
  }

  // What batches hold, as WriteBatch::Handler.

  Status PutCF(uint32_t cf, const Slice& key, const Slice& value) override {
    if (writer_ == nullptr || cf != cf_) {
      const Status s = Begin(cf, key);
      if (!s.ok()) return s;
    }
    newest_ = key;
    const Status s = writer_->Put(key, value);
    // The one argument of Put's that can be invalid is the key.
    return s.IsInvalidArgument() ? Unordered("keys do not ascend") : s;
  }
  Status DeleteCF(uint32_t, const Slice&) override {
    return Unordered("a batch holds a delete");
  }
  Status DeleteRangeCF(uint32_t, const Slice&, const Slice&) override {
    return Unordered("a batch holds a range delete");
  }

 private:
  // Begin begins the file whose first key is key.
  Status Begin(uint32_t cf, const Slice& key) {
    if (cf >= files_.size()) return Status::InvalidArgument("unknown space");
    if (cf < cf_) return Unordered("spaces do not ascend");
    if (cf == cf_ && !files_[cf].empty() && key.compare(newest_) <= 0) {
      return Unordered("keys do not ascend");
    }
    const Status s = Complete();
    if (!s.ok()) return s;
    cf_ = cf;
    ColumnFamilyHandle* const family = db_->cfs[cf];
    rocksdb::Options options = db_->db->GetOptions(family);
    // Compressed as a flush does it: the last level's compression takes longer,
    // and can wait until compaction rewrites the file.
    options.bottommost_compression = rocksdb::kDisableCompressionOption;
    options.compression_per_level.clear();
    limit_ = options.target_file_size_base;
    size_ = idle_ = 0;
    // What was loaded will be read: it may stay in the page cache.
    constexpr bool kForget = false;
    writer_ = std::make_unique<SstFileWriter>(rocksdb::EnvOptions(options),
                                              options, family, kForget);
    files_[cf].push_back(dir_ + "/" + std::to_string(cf) + "-" +
                         std::to_string(files_[cf].size()) + ".sst");
    return writer_->Open(files_[cf].back());
  }

  // Complete ends the file that is being written, if any. Its filter, its index
  // and the wait for the disk overlap with the writing of the next one; there
  // are never more than two.
  Status Complete() {
    if (writer_ == nullptr) return Status::OK();
    Status s = Completed();
    if (s.ok()) {
      completing_ = std::async([writer = std::move(writer_)] {
        return writer->Finish();
      });
    }
    return s;
  }

  // Completed waits until the files that were ended are durable.
  Status Completed() {
    return completing_.valid() ? completing_.get() : Status::OK();
  }

  // kIdle is how many bytes are added to a file that does not grow by them. (It
  // grows block by block.)
  static constexpr uint64_t kIdle = 1 << 20;

  dkv_db* const db_;
  const std::string dir_;
  std::vector<std::vector<std::string>> files_;  // by column family
  uint32_t cf_ = 0;
  std::unique_ptr<SstFileWriter> writer_;  // of cf_, nullptr between files
  uint64_t limit_ = 0;              // the length at which it is complete
  uint64_t size_ = 0;               // its length when it was last looked at
  uint64_t idle_ = 0;               // what was added since it last grew
  std::future<Status> completing_;  // of the file before, if valid
  Slice newest_;                    // the last key: in a batch, or
  std::string last_;                // the last batch's
};

dkv_load_begin dkv_load_open(dkv_db* db, const char* dir) {
  // A load leaves files, but takes no sequence numbers.
  std::vector<rocksdb::LiveFileMetaData> files;
  db->db->GetLiveFilesMetaData(&files);
  if (db->db->GetLatestSequenceNumber() != 0 || !files.empty()) {
    return {DKV_NOT_EMPTY, strdup("it was written to before"), nullptr};
  }
  return {DKV_OK, nullptr, new dkv_load(db, dir)};
}

dkv_status dkv_load_add(dkv_load* load, const char* rep, size_t len) {
  const Status s = load->Add(rep, len);
  if (s.IsAborted()) return {DKV_UNORDERED, strdup(s.ToString().c_str())};
  return Result(s);
}

dkv_status dkv_load_finish(dkv_load* load) { return Result(load->Finish()); }

void dkv_load_free(dkv_load* load) { delete load; }
