#include "apps/cli/output.h"

#include <cstdio>

namespace patrickstar::cli {

int fail(int code, const std::string& text) {
  std::fprintf(stderr, "patrickstar: error: %s\n", text.substr(0, text.find('\n')).c_str());
  return code;
}

}  // namespace patrickstar::cli
