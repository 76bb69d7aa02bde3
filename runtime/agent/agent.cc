// The agent: makes a machine with an ARM (or x86) CPU a device of tapdot, over TVM's RPC protocol.
//
// This parent process only accepts and forks. It loads no TVM and starts no thread, so a fork is always safe, and nothing a
// client sends is read here. A child serves one client in a folder of its own, under limits, and may crash or be killed
// without the next client noticing.

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "handshake.h"
#include "options.h"
#include "session.h"

namespace tapdot {
namespace {

// Connections that have not shown the key yet may take this many processes more, so that a few silent strangers cannot
// keep a client with the key waiting.
constexpr int kSpareConnections = 16;

// A session whose client has gone may finish what it is doing for so long. A kernel that hangs would keep its core otherwise.
constexpr std::chrono::seconds kFarewell{2};

using Clock = std::chrono::steady_clock;

volatile sig_atomic_t stop_asked = 0;

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "tapdot-agent: %s\n", message.c_str());
  std::exit(1);
}

// Does not follow links: what a session links to is not its own.
void RemoveTree(const std::string& path) {
  const int folder = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (DIR* listing = folder < 0 ? nullptr : fdopendir(folder)) {
    while (const dirent* item = readdir(listing)) {
      const std::string name = item->d_name;
      if (name != "." && name != "..") RemoveTree(path + "/" + name);
    }
    closedir(listing);
    rmdir(path.c_str());
  } else {
    unlink(path.c_str());
  }
}

std::string TemporaryFolder(const std::string& prefix) {
  std::string path = prefix + "XXXXXX";
  return mkdtemp(path.data()) ? path : std::string();
}

// A folder of this agent's own, and what agents that were killed left behind swept away. Each holds a lock on a file in
// its folder for as long as it lives.
std::string ClaimFolder(const std::string& directory) {
  mkdir(directory.c_str(), 0700);
  if (DIR* listing = opendir(directory.c_str())) {
    while (const dirent* item = readdir(listing)) {
      const std::string name = item->d_name, path = directory + "/" + name;
      if (name.rfind("agent-", 0) != 0) continue;
      const int lock = open((path + "/lock").c_str(), O_RDONLY | O_CLOEXEC);
      if (lock < 0) continue;
      if (flock(lock, LOCK_EX | LOCK_NB) == 0) RemoveTree(path);
      close(lock);
    }
    closedir(listing);
  }
  const std::string folder = TemporaryFolder(directory + "/agent-");
  if (folder.empty()) Die("cannot create a folder in " + directory + ": " + std::strerror(errno));
  const int lock = open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0 || flock(lock, LOCK_EX) != 0) Die("cannot lock " + folder + ": " + std::strerror(errno));
  return folder;  // the descriptor stays open until this process ends
}

// A numeric address of either family, and its size; 0 where the text is none.
socklen_t Parse(const std::string& text, uint16_t port, sockaddr_storage* address) {
  *address = {};
  auto* four = reinterpret_cast<sockaddr_in*>(address);
  if (inet_pton(AF_INET, text.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    return sizeof *four;
  }
  auto* six = reinterpret_cast<sockaddr_in6*>(address);
  if (inet_pton(AF_INET6, text.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    return sizeof *six;
  }
  return 0;
}

int Listen(const Options& options, uint16_t* port) {
  sockaddr_storage address;
  socklen_t size = Parse(options.address, options.port, &address);
  if (size == 0) Die("'" + options.address + "' is not a numeric IPv4 or IPv6 address");
  const int listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 64) != 0) {
    const std::string place = options.address + ":" + std::to_string(options.port);
    if (errno == EADDRINUSE)
      Die("port " + std::to_string(options.port) + " of " + options.address +
          " is taken by another program; stop it or choose another --port");
    Die("cannot listen on " + place + ": " + std::strerror(errno));
  }
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  *port = ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                              : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
  fcntl(listener, F_SETFL, O_NONBLOCK);
  return listener;
}

void Limit(int resource, uint64_t most) {
  rlimit limit{};
  getrlimit(resource, &limit);
  limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? most : std::min<uint64_t>(most, limit.rlim_max);
  setrlimit(resource, &limit);
}

// A client that vanished without a word (a pulled cable, a crashed host) is noticed within about half a minute.
void WatchPeer(int connection) {
  const int on = 1, idle = 15, interval = 5, probes = 3;
  setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(connection, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt(connection, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt(connection, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

class Agent {
 public:
  // Takes the port first: an agent that cannot have it leaves nothing behind.
  explicit Agent(Options options)
      : options_(std::move(options)), listener_(Listen(options_, &port_)), folder_(ClaimFolder(options_.directory)) {
    mkdir(options_.cache.c_str(), 0700);
    children_.resize(static_cast<size_t>(options_.sessions + kSpareConnections));
    void* shared = mmap(nullptr, children_.size() * sizeof(*serving_), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) Die("cannot allocate memory");
    serving_ = static_cast<std::atomic<int>*>(shared);
  }

  ~Agent() {
    for (const Child& child : children_)
      if (child.process > 0) kill(child.process, SIGKILL);
    for (const Child& child : children_)
      if (child.process > 0) waitpid(child.process, nullptr, 0);
    RemoveTree(folder_);
  }

  void Serve() {
    const bool six = options_.address.find(':') != std::string::npos;
    std::printf(six ? "listening on [%s]:%u\n" : "listening on %s:%u\n", options_.address.c_str(), port_);
    std::fflush(stdout);

    // Signals are let in only while waiting, so none is missed between a check and a wait.
    sigset_t blocked, while_waiting;
    sigemptyset(&blocked);
    for (int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&blocked, signal);
    sigprocmask(SIG_BLOCK, &blocked, &while_waiting);
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigaction(SIGCHLD, &action, nullptr);
    action.sa_handler = [](int) { stop_asked = 1; };
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaction(signal, &action, nullptr);

    while (!stop_asked) {
      Reap();
      EndAbandoned();
      // With every process slot taken, new connections wait in the system's backlog.
      std::vector<pollfd> waiting = {{FreeSlot() >= 0 ? listener_ : -1, POLLIN, 0},
                                     {options_.exit_with_stdin ? STDIN_FILENO : -1, POLLIN, 0}};
      bool abandoned = false;
      for (const Child& child : children_) {
        const bool has_client = child.process > 0 && child.abandoned == Clock::time_point{};
        abandoned |= child.process > 0 && !has_client;
        waiting.push_back({has_client ? child.connection : -1, POLLRDHUP, 0});
      }
      const timespec soon{0, 200'000'000};
      if (ppoll(waiting.data(), waiting.size(), abandoned ? &soon : nullptr, &while_waiting) < 0) continue;
      for (size_t slot = 0; slot < children_.size(); ++slot)
        if (waiting[slot + 2].revents != 0) children_[slot].abandoned = Clock::now();
      if (waiting[1].revents != 0) {
        char ignored[64];
        if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) return;
      }
      if (waiting[0].revents != 0) AcceptOne(while_waiting);
    }
  }

 private:
  struct Child {
    pid_t process = 0;
    std::string folder;
    int connection = -1;  // never read or written here, only watched
    Clock::time_point abandoned{};  // when its client left
  };

  int FreeSlot() const {
    for (size_t slot = 0; slot < children_.size(); ++slot)
      if (children_[slot].process == 0) return static_cast<int>(slot);
    return -1;
  }

  void Reap() {
    pid_t ended;
    int status = 0;
    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
      for (size_t slot = 0; slot < children_.size(); ++slot) {
        Child& child = children_[slot];
        if (child.process != ended) continue;
        if (WIFSIGNALED(status))
          std::fprintf(stderr, "tapdot-agent: session ended by signal %d (%s)\n", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
        RemoveTree(child.folder);
        serving_[slot] = 0;
        close(child.connection);
        child = Child{};
      }
    }
  }

  void EndAbandoned() {
    for (const Child& child : children_)
      if (child.process > 0 && child.abandoned != Clock::time_point{} && Clock::now() > child.abandoned + kFarewell)
        kill(child.process, SIGKILL);
  }

  void AcceptOne(const sigset_t& child_signals) {
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) {
      // Out of descriptors or memory: the connection is still pending, so pause instead of spinning on it.
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) usleep(100'000);
      return;
    }
    const int slot = FreeSlot();
    std::string folder = TemporaryFolder(folder_ + "/session-");
    const pid_t parent = getpid();
    const pid_t process = folder.empty() ? -1 : fork();
    if (process == 0) {
      sigprocmask(SIG_SETMASK, &child_signals, nullptr);
      close(listener_);
      for (const Child& other : children_)
        if (other.process > 0) close(other.connection);  // no session holds another's line
      _exit(RunChild(connection, slot, folder, parent));
    }
    if (process < 0) {
      std::fprintf(stderr, "tapdot-agent: cannot start a session: %s\n", std::strerror(errno));
      if (!folder.empty()) RemoveTree(folder);
      close(connection);
    } else {
      children_[static_cast<size_t>(slot)] = {process, std::move(folder), connection};
    }
  }

  // Several may ask at the same moment and all see too many; then all are refused and may ask again.
  bool TakeSession(int slot) {
    serving_[slot] = 1;
    int taken = 0;
    for (size_t other = 0; other < children_.size(); ++other) taken += serving_[other];
    if (taken > options_.sessions) serving_[slot] = 0;
    return serving_[slot] == 1;
  }

  int RunChild(int connection, int slot, const std::string& folder, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) return 1;  // it died before the line above
    for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(signal, SIG_DFL);
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);  // a file beyond its limit is then a failed write with a sentence
    if (chdir(folder.c_str()) != 0) return 1;
    WatchPeer(connection);

    const Greeting greeting = ReceiveGreeting(connection, options_.key, options_.handshake_seconds);
    if (greeting.verdict != Verdict::kAccepted) return 0;
    if (!TakeSession(slot)) {
      RefuseBusy(connection);
      return 0;
    }
    unsigned seconds = options_.session_seconds;
    if (greeting.timeout_seconds > 0) seconds = std::min(seconds, greeting.timeout_seconds);
    alarm(seconds);
    Limit(RLIMIT_CORE, 0);
    Limit(RLIMIT_NOFILE, 256);
    Limit(RLIMIT_FSIZE, options_.file_limit_bytes);
    Limit(RLIMIT_AS, options_.memory_limit_bytes > 0
                         ? options_.memory_limit_bytes
                         : static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
    Accept(connection, options_.key);
    if (AwaitFirstRequest(connection)) return ServeSession(connection, folder, options_);
    serving_[slot] = 0;  // before the connection closes: whoever only checked its key finds its session free again
    return 0;
  }

  Options options_;
  uint16_t port_ = 0;
  int listener_;
  std::string folder_;
  std::vector<Child> children_;
  std::atomic<int>* serving_ = nullptr;  // one a slot, shared with the children: 1 while a client with the key is served
};

}  // namespace
}  // namespace tapdot

int main(int count, char** arguments) {
  umask(077);
  signal(SIGPIPE, SIG_IGN);
  tapdot::Options options = tapdot::ParseOptions(count, arguments);
  // Children change into folders of their own, so every path is made absolute here.
  for (std::string* path : {&options.directory, &options.cache}) {
    if (path->front() == '/') continue;
    char* current = getcwd(nullptr, 0);
    *path = std::string(current) + "/" + *path;
    std::free(current);
  }
  tapdot::Agent(std::move(options)).Serve();
  return 0;
}
