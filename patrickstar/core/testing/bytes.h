// Whole buffers at a time: a loop over bytes is slow where the sanitizers look at each one.
#pragma once

#include <cstddef>
#include <cstring>

#include "patrickstar/core/base/units.h"

namespace patrickstar {

// Whether each of `bytes` bytes is `value`. REQUIRES: bytes > 0
inline bool all_bytes(const std::byte* at, Bytes bytes, std::byte value) {
  return *at == value && std::memcmp(at, at + 1, static_cast<std::size_t>(bytes - 1)) == 0;
}

}  // namespace patrickstar
