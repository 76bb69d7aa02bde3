// What the agent is told on its command line and in its environment.
#pragma once

#include <cstdint>
#include <string>

namespace tapdot {

inline constexpr const char* kAgentVersion = "2";
inline constexpr int kMaximumKeyBytes = 256;

struct Options {
  std::string address = "127.0.0.1";
  uint16_t port = 9190;              // 0 lets the system choose; the chosen one is printed
  std::string directory = ".";       // sessions live in a folder below it
  std::string cache;                 // weights; DIRECTORY/weights unless given
  std::string key;                   // from --key-file or TAPDOT_KEY, never from argv, which every user of the device can read
  uint64_t cache_limit_bytes = uint64_t{4} << 30;
  uint64_t file_limit_bytes = uint64_t{4} << 30;
  uint64_t memory_limit_bytes = 0;   // address space of one session; 0: as much as the device has memory
  unsigned session_seconds = 3600;   // wall clock
  double handshake_seconds = 5;
  int sessions = 4;                  // at the same time
  bool exit_with_stdin = false;      // ends when its standard input does: whoever started it is gone
  std::string machine;               // make and model, told by whoever starts it where no file says them; only reported back
  bool emulated = false;             // told by whoever runs it under an emulator; only reported back
};

// Prints what is wrong to stderr and exits with status 2 on a bad command line, 1 on an unusable key.
Options ParseOptions(int count, char** arguments);

}  // namespace tapdot
