// What the tests of optim/ share: chosen instruction sets, awkward numbers, a ParallelFor that behaves badly on purpose.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "patrickstar/core/base/parallel.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar {

// Runs `test` once for each instruction set that this machine has and the kernels are built for.
template <class Test>
void for_each_target(const Test& test) {
  for (const std::int64_t target : {HWY_AVX3, HWY_AVX2, HWY_SCALAR}) {
    if (target != HWY_SCALAR && (hwy::SupportedTargets() & target) == 0) continue;
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    test(target);
    hwy::SetSupportedTargetsForTest(0);
  }
}

// Cuts [0, count) at random places, out of order, each piece on a thread of its own.
inline ParallelFor random_threads(std::uint64_t seed) {
  return [seed](std::int64_t count, std::int64_t /*grain*/, const std::function<void(std::int64_t, std::int64_t)>& body) {
    std::mt19937_64 random(seed);
    std::vector<std::int64_t> cuts{0, count};
    for (int i = 0; i < 4; ++i) cuts.push_back(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(count + 1)));
    std::sort(cuts.begin(), cuts.end());
    std::vector<std::thread> threads;
    for (std::size_t i = cuts.size() - 1; i > 0; --i) {
      if (cuts[i - 1] < cuts[i]) threads.emplace_back([&body, b = cuts[i - 1], e = cuts[i]] { body(b, e); });
    }
    for (auto& thread : threads) thread.join();
  };
}

// Every tenth number is awkward (zeros, denormals, huge, infinite, NaNs of all kinds), the others are near `scale`.
inline std::vector<float> awkward_floats(Elems count, std::uint64_t seed, float scale) {
  static const std::uint32_t kAwkward[] = {0x00000000u, 0x80000000u, 0x00000001u, 0x807fffffu, 0x00800000u,
                                           0x7f7fffffu, 0xff7fffffu, 0x7f800000u, 0xff800000u, 0x7fc00000u,
                                           0xffc00000u, 0x7f800001u, 0xffaaaaaau, 0x7fffffffu, 0x3f808000u,
                                           0x3f818000u, 0x5f000000u, 0x20000000u, 0x7f7f8000u, 0x00008000u};
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    value = random() % 10 == 0 ? std::bit_cast<float>(kAwkward[random() % std::size(kAwkward)]) : normal(random);
  }
  return values;
}

template <class T>
std::string first_difference(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return "sizes differ";
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0) {
      return "element " + std::to_string(i) + ": " + std::to_string(a[i]) + " and " + std::to_string(b[i]);
    }
  }
  return "";
}

}  // namespace patrickstar
