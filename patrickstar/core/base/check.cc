#include "patrickstar/core/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace patrickstar {

void check_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "patrickstar: broken invariant at %s:%d: %s\n", file, line, expression);
  std::fflush(stderr);
  std::abort();
}

}  // namespace patrickstar
