// The processor's name, for results. Any thread.
#pragma once

#include <string>

namespace patrickstar {

// "AMD EPYC, family 26 model 2": family and model tell generations with one name apart. "unknown" where /proc/cpuinfo has none.
// `cpuinfo`: another file, for tests.
std::string processor_name(const std::string& cpuinfo = "/proc/cpuinfo");

}  // namespace patrickstar
