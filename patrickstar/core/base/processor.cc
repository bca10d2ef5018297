#include "patrickstar/core/base/processor.h"

#include <fstream>
#include <map>

namespace patrickstar {

std::string processor_name(const std::string& cpuinfo) {
  std::ifstream file(cpuinfo);
  std::map<std::string, std::string> fields;  // of the first processor
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const std::size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    const std::size_t end = line.find_last_not_of(" \t", colon - 1);
    if (end != std::string::npos) fields.emplace(line.substr(0, end + 1), line.substr(colon + 2));
  }
  if (fields["model name"].empty()) return "unknown";
  if (fields["cpu family"].empty()) return fields["model name"];
  return fields["model name"] + ", family " + fields["cpu family"] + " model " + fields["model"];
}

}  // namespace patrickstar
