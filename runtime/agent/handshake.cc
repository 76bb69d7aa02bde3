#include "handshake.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <sstream>

#include "options.h"

namespace tapdot {
namespace {

// TVM's codes (tvm/rpc/base.py): success, "key already in use", "no server matches this key".
constexpr int32_t kMagic = 0xff271, kDuplicate = kMagic + 1, kMismatch = kMagic + 2;
const std::string kClientPrefix = "client:";

using Clock = std::chrono::steady_clock;

bool ReceiveBefore(int connection, void* data, size_t size, Clock::time_point deadline) {
  char* bytes = static_cast<char*>(data);
  while (size > 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd waiting{connection, POLLIN, 0};
    const int ready = poll(&waiting, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t taken = recv(connection, bytes, size, MSG_DONTWAIT);
    if (taken < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (taken <= 0) return false;
    bytes += taken;
    size -= static_cast<size_t>(taken);
  }
  return true;
}

void Send(int connection, const void* data, size_t size) {
  // A few bytes into an empty socket buffer: either they fit or the client is gone.
  [[maybe_unused]] const ssize_t sent = send(connection, data, size, MSG_NOSIGNAL);
}

void SendCode(int connection, int32_t code) { Send(connection, &code, sizeof code); }

// Takes the same time wherever the first difference is, so that a key cannot be guessed byte by byte.
bool SameKey(const std::string& given, const std::string& expected) {
  volatile unsigned char difference = given.size() != expected.size();
  for (size_t i = 0; i < given.size(); ++i)
    difference = difference | static_cast<unsigned char>(given[i] ^ expected[i % expected.size()]);
  return difference == 0;
}

}  // namespace

Greeting ReceiveGreeting(int connection, const std::string& key, double seconds) {
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  int32_t magic = 0, length = 0;
  if (!ReceiveBefore(connection, &magic, sizeof magic, deadline) || magic != kMagic) return {};
  if (!ReceiveBefore(connection, &length, sizeof length, deadline)) return {};
  if (length < 0 || length > kMaximumKeyBytes) return {};
  std::string greeting(static_cast<size_t>(length), '\0');
  if (!ReceiveBefore(connection, greeting.data(), greeting.size(), deadline)) return {};

  std::istringstream words(greeting);
  std::string given, option;
  words >> given;
  if (!SameKey(given, kClientPrefix + key)) {
    SendCode(connection, kMismatch);
    return {};
  }
  Greeting accepted{Verdict::kAccepted, 0};
  const std::string timeout = "-timeout=";
  while (words >> option) {
    if (option.rfind(timeout, 0) != 0) continue;
    const double asked = std::strtod(option.c_str() + timeout.size(), nullptr);
    if (asked > 0 && asked < 1e9) accepted.timeout_seconds = static_cast<unsigned>(asked) + 1;
  }
  return accepted;
}

void Accept(int connection, const std::string& key) {
  const std::string answer = "server:" + key;
  const int32_t length = static_cast<int32_t>(answer.size());
  SendCode(connection, kMagic);
  Send(connection, &length, sizeof length);
  Send(connection, answer.data(), answer.size());
}

void RefuseBusy(int connection) { SendCode(connection, kDuplicate); }

bool AwaitFirstRequest(int connection) {
  char byte;
  ssize_t seen;
  do {
    seen = recv(connection, &byte, 1, MSG_PEEK);
  } while (seen < 0 && errno == EINTR);
  return seen == 1;
}

}  // namespace tapdot
