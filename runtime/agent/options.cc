#include "options.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

namespace tapdot {
namespace {

const char kUsage[] =
    "usage: tapdot-agent [--port 9190] [--address 127.0.0.1] [--directory DIR] [--key-file FILE]\n"
    "                    [--cache DIR] [--cache-limit MIB] [--file-limit MIB] [--memory-limit MIB]\n"
    "                    [--session-seconds S] [--handshake-seconds S] [--sessions N] [--exit-with-stdin]\n"
    "                    [--machine TEXT] [--emulated]\n"
    "The key comes from FILE or from TAPDOT_KEY. A session runs code and is not encrypted: stay on loopback and\n"
    "reach the agent through adb forward or an ssh tunnel.\n";

[[noreturn]] void Refuse(int status, const std::string& message) {
  std::fprintf(stderr, "tapdot-agent: %s\n", message.c_str());
  if (status == 2) std::fputs(kUsage, stderr);
  std::exit(status);
}

double Number(const std::string& flag, const std::string& text, double lowest, double highest) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= lowest && value <= highest)) {
    std::ostringstream message;
    message << flag << " takes a number from " << lowest << " to " << highest << ", not '" << text << "'";
    Refuse(2, message.str());
  }
  return value;
}

std::string KeyFromFile(const std::string& path) {
  std::ifstream file(path);
  std::string key;
  if (!file || !std::getline(file, key)) Refuse(1, "cannot read a key from " + path);
  return key;
}

}  // namespace

Options ParseOptions(int count, char** arguments) {
  Options options;
  const double most = 1e9;
  const auto mebibytes = [most](const std::string& flag, const std::string& text) {
    return static_cast<uint64_t>(Number(flag, text, 1, most)) << 20;
  };
  using Setter = std::function<void(const std::string& flag, const std::string& value)>;
  const std::map<std::string, Setter> valued = {
      {"--address", [&](auto&, auto& value) { options.address = value; }},
      {"--port", [&](auto& flag, auto& value) { options.port = static_cast<uint16_t>(Number(flag, value, 0, 65535)); }},
      {"--directory", [&](auto&, auto& value) { options.directory = value; }},
      {"--cache", [&](auto&, auto& value) { options.cache = value; }},
      {"--key-file", [&](auto&, auto& value) { options.key = KeyFromFile(value); }},
      {"--cache-limit", [&](auto& flag, auto& value) { options.cache_limit_bytes = mebibytes(flag, value); }},
      {"--file-limit", [&](auto& flag, auto& value) { options.file_limit_bytes = mebibytes(flag, value); }},
      {"--memory-limit", [&](auto& flag, auto& value) { options.memory_limit_bytes = mebibytes(flag, value); }},
      {"--session-seconds",
       [&](auto& flag, auto& value) { options.session_seconds = static_cast<unsigned>(Number(flag, value, 1, most)); }},
      {"--handshake-seconds", [&](auto& flag, auto& value) { options.handshake_seconds = Number(flag, value, 0.05, 60); }},
      {"--machine", [&](auto&, auto& value) { options.machine = value; }},
      {"--sessions", [&](auto& flag, auto& value) { options.sessions = static_cast<int>(Number(flag, value, 1, 64)); }},
  };
  const std::map<std::string, bool*> switches = {{"--exit-with-stdin", &options.exit_with_stdin},
                                                 {"--emulated", &options.emulated}};
  for (int i = 1; i < count; ++i) {
    const std::string flag = arguments[i];
    if (flag == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (const auto found = switches.find(flag); found != switches.end()) {
      *found->second = true;
    } else if (const auto found = valued.find(flag); found != valued.end()) {
      if (i + 1 == count) Refuse(2, flag + " needs a value");
      found->second(flag, arguments[++i]);
    } else {
      Refuse(2, "unknown option '" + flag + "'");
    }
  }
  if (options.key.empty())
    if (const char* key = std::getenv("TAPDOT_KEY")) options.key = key;
  if (options.key.empty())
    Refuse(1, "no key: whoever connects runs code here, so give one in TAPDOT_KEY or with --key-file");
  if (options.key.size() > kMaximumKeyBytes - 64 || options.key.find_first_of(" \t\r\n") != std::string::npos)
    Refuse(1, "the key must be at most 192 bytes without spaces");
  if (options.cache.empty()) options.cache = options.directory + "/weights";
  unsetenv("TAPDOT_KEY");  // sessions run foreign code and need not see it in their environment
  return options;
}

}  // namespace tapdot
