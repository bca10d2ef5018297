// Random steps small enough that every schedule of them can be tried.
#pragma once

#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include "patrickstar/core/testing/traces.h"

namespace patrickstar {

inline constexpr Bytes kUnit = Bytes{1} << 30;  // so large that rounding a mean down does not show

enum class Sizes { kUnits, kMixed };

struct RandomCase {
  Trace trace;
  std::vector<Bytes> room;
};

inline RandomCase random_case(std::mt19937& random, Sizes sizes) {
  const std::size_t payloads = 2 + random() % 3;
  const std::size_t moments = 2 + random() % 7;
  std::vector<Bytes> bytes;
  Bytes all = 0;
  for (std::size_t i = 0; i < payloads; ++i) {
    bytes.push_back(sizes == Sizes::kUnits ? kUnit : kUnit * static_cast<Bytes>(1 + random() % 3));
    all += bytes.back();
  }
  RandomCase made;
  std::vector<MomentSpec> steps(moments);
  for (MomentSpec& step : steps) {
    step.compute = static_cast<Nanos>(random() % 5'000'000'000);
    std::set<std::uint32_t> used;
    const std::size_t accesses = random() % 3;
    Bytes needed = 0;
    for (std::size_t i = 0; i < accesses; ++i) {
      const auto payload = static_cast<std::uint32_t>(random() % payloads);
      if (!used.insert(payload).second) continue;
      needed += bytes[payload];
      const auto kind = random() % 8;
      step.accesses.push_back(kind < 4 ? writes(payload) : kind < 7 ? reads(payload) : creates(payload));
    }
    made.room.push_back(needed + kUnit * static_cast<Bytes>(random() % static_cast<std::uint64_t>((all - needed) / kUnit + 1)));
  }
  made.trace = trace_of(bytes, steps);
  return made;
}

}  // namespace patrickstar
