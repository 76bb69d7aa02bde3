// Weights on the device, each file named by its SHA-256: uploaded once, checked while it arrives, mapped by every session
// that needs it, dropped least recently used first when the cache outgrows its limit.
#pragma once

#include <dirent.h>
#include <sys/file.h>
#include <utime.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "files.h"
#include "sha256.h"

namespace tapdot {

inline constexpr int kSettlingSeconds = 10;

class WeightsCache {
 public:
  WeightsCache(std::string directory, uint64_t limit_bytes)
      : directory_(std::move(directory)), limit_bytes_(limit_bytes) {}

  // Size in bytes of the weights with this digest, or -1 when they are not here.
  int64_t Size(const std::string& digest) const {
    struct stat status;
    return stat(Path(digest).c_str(), &status) == 0 ? status.st_size : -1;
  }

  // Starts an upload and reserves its room, so that a full disk is met before the transfer and not after it.
  void Begin(const std::string& digest, int64_t bytes) {
    Path(digest);  // refuses a malformed digest
    if (bytes < 0 || static_cast<uint64_t>(bytes) > limit_bytes_)
      throw std::runtime_error("weights of " + std::to_string(bytes) + " bytes exceed the device's cache limit of " +
                               std::to_string(limit_bytes_) + " bytes; start the agent with a larger --cache-limit");
    MakeRoom(static_cast<uint64_t>(bytes));
    upload_ = std::make_unique<Upload>();
    upload_->digest = digest;
    upload_->bytes = bytes;
    upload_->path = directory_ + "/partial-" + digest.substr(0, 16) + "-" + std::to_string(getpid());
    upload_->file = OpenFile(upload_->path, O_WRONLY | O_CREAT | O_TRUNC);
    // The lock tells MakeRoom, in any process, that somebody is still writing here.
    flock(upload_->file.get(), LOCK_EX);
    if (bytes > 0) {
      errno = posix_fallocate(upload_->file.get(), 0, bytes);
      if (errno != 0 && errno != EOPNOTSUPP && errno != EINVAL) {
        const int reason = errno;
        upload_.reset();
        errno = reason;
        Fail("the device has no room for " + std::to_string(bytes) + " bytes of weights");
      }
    }
  }

  void Append(const char* data, size_t size) {
    if (!upload_) throw std::runtime_error("no upload of weights was begun");
    if (upload_->received + static_cast<int64_t>(size) > upload_->bytes)
      throw std::runtime_error("more weights arrived than were announced");
    WriteAll(upload_->file.get(), data, size, "weights");
    upload_->digest_so_far.Update(data, size);
    upload_->received += static_cast<int64_t>(size);
  }

  void Commit() {
    if (!upload_) throw std::runtime_error("no upload of weights was begun");
    std::unique_ptr<Upload> upload = std::move(upload_);
    if (upload->received != upload->bytes)
      throw std::runtime_error("expected " + std::to_string(upload->bytes) + " bytes of weights, received " +
                               std::to_string(upload->received));
    const std::string found = upload->digest_so_far.Hexadecimal();
    if (found != upload->digest)
      throw std::runtime_error("weights arrived damaged: expected SHA-256 " + upload->digest + ", found " + found);
    if (rename(upload->path.c_str(), Path(upload->digest).c_str()) != 0) Fail("cannot store weights");
    upload->path.clear();
  }

  tvm::ffi::Tensor Map(const std::string& digest) const {
    const std::string path = Path(digest);
    const int64_t bytes = Size(digest);
    if (bytes < 0) throw std::runtime_error("weights " + digest + " are not on this device");
    utime(path.c_str(), nullptr);  // most recently used
    return tvm::ffi::Tensor::FromNDAlloc(MappedFile{path}, tvm::ffi::ShapeView(&bytes, 1), DLDataType{kDLUInt, 8, 1},
                                         DLDevice{kDLCPU, 0});
  }

  // Drops what was used longest ago until there is room for `incoming` bytes more. A mapped file may go: its pages
  // live on until the last mapping ends.
  void MakeRoom(uint64_t incoming) const {
    struct Entry {
      std::string path;
      uint64_t bytes;
      timespec used;
    };
    std::vector<Entry> entries;
    uint64_t total = incoming;
    std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(directory_.c_str()), closedir);
    if (!listing) Fail("cannot list " + directory_);
    while (const dirent* item = readdir(listing.get())) {
      const std::string name = item->d_name, path = directory_ + "/" + name;
      struct stat status;
      if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
      if (name.rfind("partial-", 0) == 0) {
        FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
        // Not one created a moment ago, whose writer is about to lock it.
        const bool abandoned = std::time(nullptr) - status.st_mtim.tv_sec > kSettlingSeconds && file.get() >= 0 &&
                               flock(file.get(), LOCK_EX | LOCK_NB) == 0;
        if (abandoned) unlink(path.c_str());
        continue;
      }
      entries.push_back({path, static_cast<uint64_t>(status.st_size), status.st_mtim});
      total += static_cast<uint64_t>(status.st_size);
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::make_pair(a.used.tv_sec, a.used.tv_nsec) < std::make_pair(b.used.tv_sec, b.used.tv_nsec);
    });
    for (const Entry& entry : entries) {
      if (total <= limit_bytes_) break;
      if (unlink(entry.path.c_str()) == 0) total -= entry.bytes;
    }
  }

 private:
  struct Upload {
    std::string digest, path;
    FileDescriptor file;
    int64_t bytes = 0, received = 0;
    Sha256 digest_so_far;
    ~Upload() {
      if (!path.empty()) unlink(path.c_str());
    }
  };

  std::string Path(const std::string& digest) const {
    if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != std::string::npos)
      throw std::runtime_error("weights are named by 64 lower-case hexadecimal digits");
    return directory_ + "/" + digest;
  }

  std::string directory_;
  uint64_t limit_bytes_;
  std::unique_ptr<Upload> upload_;
};

}  // namespace tapdot
