#include "session.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

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

// "4,5" as numbers of cores; only those this process may use.
std::vector<int> ParseCores(const std::string& text) {
  const std::vector<int> usable = AvailableCores();
  std::vector<int> cores;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    cores.push_back(std::atoi(word.c_str()));
    if (std::find(usable.begin(), usable.end(), cores.back()) == usable.end())
      throw std::runtime_error("core " + word + " is none that a session may use");
  }
  return cores;
}

// Gives TVM's thread pool `threads` of the cores this process may use: any, or each its own of `pinned`, this thread the first.
int64_t SetThreads(int64_t threads, const std::vector<int>& pinned) {
  const std::vector<int> usable = AvailableCores();
  const std::vector<int>& chosen = pinned.empty() ? usable : pinned;
  // The pool leaves this thread free on all cores of the list, and all its threads where they outnumber the list.
  ffi::Array<ffi::String> listed;
  for (size_t i = 0; i < std::max<size_t>(usable.size(), static_cast<size_t>(sysconf(_SC_NPROCESSORS_CONF))); ++i)
    listed.push_back(std::to_string(chosen[i % chosen.size()]));
  constexpr int64_t kOneCorePerThread = -2;  // tvm::runtime::threading::ThreadGroup::AffinityMode
  CallGlobal("runtime.config_threadpool", kOneCorePerThread, threads, listed);
  cpu_set_t own;
  CPU_ZERO(&own);
  for (int core : chosen)
    if (pinned.empty() || core == pinned.front()) CPU_SET(core, &own);
  if (sched_setaffinity(0, sizeof own, &own) != 0) Fail("cannot choose the core of this thread");
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
  DefineGlobal("tapdot.agent.set_threads", [](int64_t threads) { return SetThreads(threads, {}); });
  DefineGlobal("tapdot.agent.pin_threads", [](int64_t threads, ffi::String cores) {
    return SetThreads(threads, ParseCores(std::string(cores)));
  });
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
