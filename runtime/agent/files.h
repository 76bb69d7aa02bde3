// Files and memory as both programs of the agent use them. Every failure is an exception that says what was being done.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <tvm/ffi/container/tensor.h>

namespace tapdot {

[[noreturn]] inline void Fail(const std::string& doing) {
  throw std::runtime_error(doing + ": " + std::strerror(errno));
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

inline FileDescriptor OpenFile(const std::string& path, int flags) {
  FileDescriptor file(open(path.c_str(), flags | O_CLOEXEC, 0600));
  if (file.get() < 0) Fail("cannot open " + path);
  return file;
}

inline void WriteAll(int fd, const void* data, size_t size, const std::string& name) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = write(fd, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) Fail("cannot write " + name);
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

inline void ReadAll(int fd, void* data, size_t size, const std::string& name) {
  char* bytes = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t taken = read(fd, bytes, size);
    if (taken < 0 && errno == EINTR) continue;
    if (taken < 0) Fail("cannot read " + name);
    if (taken == 0) throw std::runtime_error(name + " is shorter than its tensor");
    bytes += taken;
    size -= static_cast<size_t>(taken);
  }
}

// Backs a tensor by a private, read-only mapping of part of a file: pages are shared with the page cache and never copied.
struct MappedFile {
  std::string path;
  int64_t offset = 0;
  void* address = MAP_FAILED;
  size_t mapped_bytes = 0;

  void AllocData(DLTensor* tensor) {
    FileDescriptor file = OpenFile(path, O_RDONLY);
    const auto bytes = static_cast<int64_t>(tvm::ffi::GetDataSize(*tensor));
    struct stat status;
    if (fstat(file.get(), &status) != 0) Fail("cannot read the size of " + path);
    if (status.st_size < offset + bytes)
      throw std::runtime_error(path + " holds " + std::to_string(status.st_size) + " bytes, its tensor needs " +
                               std::to_string(offset + bytes));
    if (bytes == 0) return;
    const int64_t before = offset % sysconf(_SC_PAGESIZE);  // mappings begin on pages
    mapped_bytes = static_cast<size_t>(before + bytes);
    address = mmap(nullptr, mapped_bytes, PROT_READ, MAP_PRIVATE, file.get(), offset - before);
    if (address == MAP_FAILED) Fail("cannot map " + path);
    tensor->data = static_cast<char*>(address) + before;
  }
  void FreeData(DLTensor*) {
    if (address != MAP_FAILED) munmap(address, mapped_bytes);
  }
};

// Backs a tensor by memory on a cache-line boundary, filled with 0xA5 so that a kernel that reads what it never wrote shows.
struct DirtyMemory {
  void AllocData(DLTensor* tensor) {
    const size_t bytes = tvm::ffi::GetDataSize(*tensor);
    if (posix_memalign(&tensor->data, 64, bytes + 64) != 0) throw std::bad_alloc();
    std::memset(tensor->data, 0xA5, bytes);
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

}  // namespace tapdot
