#include "patrickstar/core/base/available_memory.h"

#include <algorithm>
#include <fstream>
#include <string_view>
#include <vector>

namespace patrickstar {
namespace {

// The number after `key` in a file of "key number" lines; `missing` where there is none.
Bytes number_after(const std::string& path, std::string_view key, Bytes missing) {
  std::ifstream file(path);
  std::string word;
  Bytes value = 0;
  while (file >> word) {
    if (word == key && file >> value) return value;
  }
  return missing;
}

Bytes number_in(const std::string& path) {
  std::ifstream file(path);
  Bytes value = 0;
  return file >> value ? value : -1;
}

struct Hierarchy {
  std::string mount;
  const char* limit;
  const char* usage;
  const char* cache;  // in memory.stat
};

// The least that the group and its parents leave; -1: no limit ("max" is no number; version 1's huge one leaves more than any
// machine has).
Bytes left_in(const Hierarchy& h, std::string group) {
  Bytes least = -1;
  for (;;) {
    const std::string folder = h.mount + group + "/";
    const Bytes limit = number_in(folder + h.limit);
    const Bytes usage = number_in(folder + h.usage);
    if (limit >= 0 && usage >= 0) {
      const Bytes left = std::max<Bytes>(0, limit - usage + number_after(folder + "memory.stat", h.cache, 0));
      least = least < 0 ? left : std::min(least, left);
    }
    if (group.empty()) return least;
    group.resize(group.rfind('/'));
  }
}

// The group of this process in a hierarchy: the rest of its line in /proc/self/cgroup, "number:controllers:/group". Empty: the
// root, which inside a container is the container's own.
std::string group_of(const std::string& root, std::string_view controller) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";  // of version 2: none
    if (controllers.find("," + std::string(controller) + ",") == std::string::npos) continue;
    std::string group = line.substr(second + 1);
    while (!group.empty() && group.back() == '/') group.pop_back();
    return group.starts_with('/') ? group : "";
  }
  return "";
}

}  // namespace

Bytes available_memory(const std::string& root) {
  Bytes available = -1;
  if (const Bytes kib = number_after(root + "/proc/meminfo", "MemAvailable:", -1); kib >= 0) available = kib * kKiB;
  const std::string mount = root + "/sys/fs/cgroup";
  for (const Bytes left : {left_in({mount, "memory.max", "memory.current", "inactive_file"}, group_of(root, "")),
                           left_in({mount + "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"},
                                   group_of(root, "memory"))}) {
    if (left >= 0 && (available < 0 || left < available)) available = left;
  }
  return available;
}

}  // namespace patrickstar
