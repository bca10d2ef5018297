// The seed of a random test: fixed, so that a red test stays red, unless PATRICKSTAR_SEED is set.
#pragma once

#include <cstdint>

namespace patrickstar {

// `fixed`, or the environment variable's value. Tests print it on failure.
std::uint32_t test_seed(std::uint32_t fixed);

}  // namespace patrickstar
