#include "session.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sched.h>

#include <cstdio>
#include <memory>
#include <string>

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include "files.h"
#include "functions.h"
#include "information.h"
#include "weights_cache.h"

namespace tapdot {
namespace {

namespace ffi = tvm::ffi;

constexpr size_t kMaximumNameBytes = 128;
constexpr int kMaximumFiles = 256;

int CountFiles(const std::string& directory) {
  std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(directory.c_str()), closedir);
  int count = -2;  // "." and ".."
  while (listing && readdir(listing.get())) ++count;
  return count;
}

// A file of this session. Names are plain, so nothing a client says reaches another folder.
std::string PathInside(const std::string& directory, const std::string& name) {
  const bool plain = !name.empty() && name.size() <= kMaximumNameBytes && name[0] != '.' &&
                     name.find('/') == std::string::npos && name.find("..") == std::string::npos &&
                     name.find('\0') == std::string::npos;
  if (!plain)
    throw std::runtime_error("file names are plain: 1 to 128 bytes, no '/', no '..', no '.' in front");
  if (CountFiles(directory) >= kMaximumFiles)
    throw std::runtime_error("a session holds at most " + std::to_string(kMaximumFiles) + " files");
  return directory + "/" + name;
}

// TVM's own upload ignores a failed write; a library cut short by a full disk would only show when it is loaded.
void StoreFile(const std::string& path, const char* data, size_t size, bool append) {
  FileDescriptor file = OpenFile(path, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC));
  WriteAll(file.get(), data, size, "the file on the device");
}

// Gives TVM's thread pool `threads` of the cores this process may use, one core a thread.
int64_t SetThreads(int64_t threads) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) Fail("cannot read which cores may be used");
  static const ffi::Array<ffi::String> cores = [&] {
    // Read once: the pool narrows this thread's own affinity.
    ffi::Array<ffi::String> ids;
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &allowed)) ids.push_back(std::to_string(core));
    return ids;
  }();
  constexpr int64_t kOneCorePerThread = -2;  // tvm::runtime::threading::ThreadGroup::AffinityMode
  CallGlobal("runtime.config_threadpool", kOneCorePerThread, threads, cores);
  return CallGlobal("runtime.NumThreads").cast<int64_t>();
}

void DefineFunctions(const std::string& directory, const Options& options) {
  const auto cache = std::make_shared<WeightsCache>(options.cache, options.cache_limit_bytes);
  const auto path = [directory](const ffi::String& name) { return PathInside(directory, std::string(name)); };

  // What TVM's clients call.
  DefineGlobal("tvm.rpc.server.workpath", [path](ffi::String name) { return ffi::String(path(name)); });
  DefineGlobal("tvm.rpc.server.load_module",
               [path](ffi::String name) { return CallGlobal("ffi.ModuleLoadFromFile", ffi::String(path(name))); });
  DefineGlobal("tvm.rpc.server.upload", [path](ffi::String name, ffi::Bytes data) {
    StoreFile(path(name), data.data(), data.size(), false);
  });

  // What tapdot's own client calls besides.
  DefineGlobal("tapdot.agent.information", [options] { return ffi::String(DescribeDevice(options)); });
  DefineGlobal("tapdot.agent.set_threads", [](int64_t threads) { return SetThreads(threads); });
  DefineGlobal("tapdot.agent.append", [path](ffi::String name, ffi::Bytes data) {
    StoreFile(path(name), data.data(), data.size(), true);
  });
  DefineGlobal("tapdot.weights.size", [cache](ffi::String digest) { return cache->Size(std::string(digest)); });
  DefineGlobal("tapdot.weights.make_room", [cache](int64_t bytes) { cache->MakeRoom(static_cast<uint64_t>(bytes)); });
  DefineGlobal("tapdot.weights.begin",
               [cache](ffi::String digest, int64_t bytes) { cache->Begin(std::string(digest), bytes); });
  DefineGlobal("tapdot.weights.append", [cache](ffi::Bytes data) { cache->Append(data.data(), data.size()); });
  DefineGlobal("tapdot.weights.commit", [cache] { cache->Commit(); });
  DefineGlobal("tapdot.weights.map", [cache](ffi::String digest) { return cache->Map(std::string(digest)); });
}

}  // namespace

int ServeSession(int connection, const std::string& directory, const Options& options) {
  try {
    LoadRuntime();
    DefineFunctions(directory, options);
    CallGlobal("rpc.ServerLoop", int64_t{connection});
    return 0;
  } catch (const std::exception& error) {
    // A client that was killed ends here; the sentence is for whoever watches the agent's output.
    std::fprintf(stderr, "tapdot-agent: session ended: %s\n", error.what());
    return 1;
  }
}

}  // namespace tapdot
