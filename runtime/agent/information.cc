#include "information.h"

#include <sched.h>
#include <sys/auxv.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <vector>

namespace tapdot {
namespace {

// A flat JSON object, written field by field.
class Json {
 public:
  void Text(const char* name, const std::string& value) { Field(name, Quoted(value)); }
  void Number(const char* name, double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.15g", value);
    Field(name, text);
  }
  void Flag(const char* name, bool value) { Field(name, value ? "true" : "false"); }
  void Texts(const char* name, const std::vector<std::string>& values) {
    std::string list;
    for (const std::string& value : values) list += (list.empty() ? "" : ",") + Quoted(value);
    Field(name, "[" + list + "]");
  }
  void Numbers(const char* name, const std::vector<double>& values) {
    std::string list;
    char text[32];
    for (double value : values) {
      std::snprintf(text, sizeof text, "%s%.15g", list.empty() ? "" : ",", value);
      list += text;
    }
    Field(name, "[" + list + "]");
  }
  std::string Finish() const { return "{" + body_ + "}"; }

 private:
  static std::string Quoted(const std::string& value) {
    std::string text = "\"";
    for (char c : value) {
      if (c == '"' || c == '\\') text += '\\';
      text += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return text + "\"";
  }
  void Field(const char* name, const std::string& value) {
    body_ += (body_.empty() ? "\"" : ",\"") + std::string(name) + "\":" + value;
  }
  std::string body_;
};

#if defined(__aarch64__)
struct Feature {
  const char* name;  // as compilers call it
  int word, bit;     // AT_HWCAP (0) or AT_HWCAP2 (1); Linux's arch/arm64/include/uapi/asm/hwcap.h
};
constexpr Feature kFeatures[] = {{"neon", 0, 1},  {"aes", 0, 3},      {"sha2", 0, 6},     {"crc", 0, 7},
                                 {"lse", 0, 8},   {"fullfp16", 0, 10}, {"dotprod", 0, 20}, {"sve", 0, 22},
                                 {"fp16fml", 0, 23}, {"sve2", 1, 1},  {"i8mm", 1, 13},    {"bf16", 1, 14},
                                 {"sme", 1, 23}};

std::vector<std::string> Features() {
  // The kernel's word to this process. /proc/cpuinfo would be the host's under an emulator.
  const unsigned long words[] = {getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};
  std::vector<std::string> names;
  for (const Feature& feature : kFeatures)
    if (words[feature.word] >> feature.bit & 1) names.push_back(feature.name);
  return names;
}

// Implementer and part number, or 0 where the kernel does not let programs read them.
unsigned long MainId() {
  constexpr int kCpuidBit = 11;
  if (!(getauxval(AT_HWCAP) >> kCpuidBit & 1)) return 0;
  unsigned long id;
  asm("mrs %0, midr_el1" : "=r"(id));
  return id;
}
// Of any core, by its folder under /sys: on a phone they differ, and the register is that of the core one happens to run on.
unsigned long MainIdOf(const std::string& core) {
  std::ifstream file(core + "/regs/identification/midr_el1");
  unsigned long id = 0;
  return file >> std::hex >> id ? id : MainId();
}
std::string ProcessorName() { return {}; }
#else
// What follows the colon of the first line of /proc/cpuinfo that begins with `field`.
std::string ProcessorField(const std::string& field) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && line.rfind(field, 0) != 0) {
  }
  const size_t begin = line.find_first_not_of(" \t", std::min(line.size(), line.find(':') + 1));
  return begin == std::string::npos ? std::string() : line.substr(begin);
}
std::vector<std::string> Features() {
  std::istringstream words(ProcessorField("flags"));
  return {std::istream_iterator<std::string>(words), {}};
}
unsigned long MainId() { return 0; }
unsigned long MainIdOf(const std::string&) { return 0; }
std::string ProcessorName() { return ProcessorField("model name"); }
#endif

// Make and model of the machine, where the system tells them in a file; Android tells them elsewhere (--machine).
std::string MachineName() {
  for (const char* path : {"/proc/device-tree/model", "/sys/devices/virtual/dmi/id/product_name"}) {
    std::ifstream file(path);
    std::string name;
    if (std::getline(file, name) && !name.empty()) return name.substr(0, name.find('\0'));
  }
  return {};
}

double MebibytesFrom(const char* field) {
  std::ifstream file("/proc/meminfo");
  std::string name;
  double kibibytes;
  while (file >> name >> kibibytes) {
    if (name == std::string(field) + ":") return kibibytes / 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

// The number in a file, scaled; 0 where there is none.
double Reading(const std::string& path, double scale) {
  std::ifstream file(path);
  double value;
  return file >> value ? value * scale : 0;
}

// Readings of numbered files under /sys, scaled; the list ends where the numbering does, unreadable ones are left out.
std::vector<double> Readings(const std::string& before, const std::string& after, double scale, int most) {
  std::vector<double> values;
  for (int i = 0; i < most; ++i) {
    std::ifstream file(before + std::to_string(i) + after);
    double value;
    if (file >> value) values.push_back(value * scale);
  }
  return values;
}

}  // namespace

std::vector<int> AvailableCores() {
  // Read once: pinning a thread narrows its affinity, and the session's own children inherit it.
  static const std::vector<int> numbers = [] {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    std::vector<int> found;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0)
      for (int core = 0; core < CPU_SETSIZE; ++core)
        if (CPU_ISSET(core, &cores)) found.push_back(core);
    if (found.empty()) found.push_back(0);
    return found;
  }();
  return numbers;
}

std::string DescribeDevice(const Options& options) {
  Json json;
  utsname system{};
  uname(&system);
  struct statvfs disk {};
  statvfs(options.cache.c_str(), &disk);
  json.Text("agent_version", kAgentVersion);
#if defined(__aarch64__)
  json.Text("architecture", "aarch64");
#elif defined(__x86_64__)
  json.Text("architecture", "x86_64");
#endif
  json.Text("system", std::string(system.sysname) + " " + system.release);
  json.Flag("emulated", options.emulated);
  json.Text("machine", options.emulated || !options.machine.empty() ? options.machine : MachineName());
  json.Text("processor", ProcessorName());
  json.Number("main_id", static_cast<double>(MainId()));
  json.Texts("features", Features());
  const std::vector<int> usable = AvailableCores();
  json.Number("cores", static_cast<double>(usable.size()));
  json.Number("memory_mebibytes", MebibytesFrom("MemTotal"));
  json.Number("free_memory_mebibytes", MebibytesFrom("MemAvailable"));
  json.Number("free_disk_mebibytes", static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize) / 1048576);
  // An emulator shows its host's /sys, which says nothing of the device.
  const int cores = options.emulated ? 0 : static_cast<int>(sysconf(_SC_NPROCESSORS_CONF));
  json.Numbers("frequencies_megahertz",
               Readings("/sys/devices/system/cpu/cpu", "/cpufreq/scaling_cur_freq", 1e-3, cores));
  json.Numbers("temperatures_celsius",
               Readings("/sys/class/thermal/thermal_zone", "/temp", 1e-3, options.emulated ? 0 : 32));
  std::vector<double> numbers, main_ids, capacities, highest, now;
  for (int core : usable) {
    if (options.emulated) break;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(core);
    numbers.push_back(core);
    main_ids.push_back(static_cast<double>(MainIdOf(folder)));
    capacities.push_back(Reading(folder + "/cpu_capacity", 1));
    highest.push_back(Reading(folder + "/cpufreq/cpuinfo_max_freq", 1e-3));
    now.push_back(Reading(folder + "/cpufreq/scaling_cur_freq", 1e-3));
  }
  json.Numbers("core_numbers", numbers);
  json.Numbers("core_main_ids", main_ids);
  json.Numbers("core_capacities", capacities);
  json.Numbers("core_maximum_megahertz", highest);
  json.Numbers("core_megahertz", now);
  return json.Finish();
}

}  // namespace tapdot
