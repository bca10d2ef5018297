// Units and small arithmetic used everywhere: a byte count and an element count are never a bare int in an interface.
#pragma once

#include <cstdint>

namespace patrickstar {

using Bytes = std::int64_t;  // a number of bytes
using Elems = std::int64_t;  // a number of elements of some dtype
using Nanos = std::int64_t;  // a time or a duration in nanoseconds of an injected Clock

inline constexpr Bytes kKiB = Bytes{1} << 10;
inline constexpr Bytes kMiB = Bytes{1} << 20;
inline constexpr Bytes kGiB = Bytes{1} << 30;

// Smallest multiple of `step` that is >= value. REQUIRES: value >= 0, step > 0.
constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; }
// Largest multiple of `step` that is <= value. REQUIRES: value >= 0, step > 0.
constexpr std::int64_t round_down(std::int64_t value, std::int64_t step) { return value / step * step; }
constexpr std::int64_t ceil_div(std::int64_t value, std::int64_t step) { return (value + step - 1) / step; }

}  // namespace patrickstar
