#include "patrickstar/core/testing/seed.h"

#include <cstdlib>

namespace patrickstar {

std::uint32_t test_seed(std::uint32_t fixed) {
  const char* text = std::getenv("PATRICKSTAR_SEED");
  return text == nullptr ? fixed : static_cast<std::uint32_t>(std::strtoul(text, nullptr, 0));
}

}  // namespace patrickstar
