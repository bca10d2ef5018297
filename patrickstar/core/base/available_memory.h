// How much memory a process may take more of: what the machine has left, and what its control groups allow.
#pragma once

#include <string>

#include "patrickstar/core/base/units.h"

namespace patrickstar {

// Bytes; -1 where the system does not say. The least of /proc/meminfo's MemAvailable and, for every memory control group that
// this process is in and their parents (version 2 and 1), limit - usage + the page cache that the kernel would drop first
// (memory.stat's inactive_file, as container runtimes count it). `root` goes before the paths. Any thread.
Bytes available_memory(const std::string& root = "");

}  // namespace patrickstar
