// Inside optim/ only: one block's sum of squares in scalar code, in the order that grad_norm.h fixes.
#pragma once

#include <cstdint>

#include "patrickstar/core/optim/bf16.h"
#include "patrickstar/core/optim/grad_norm.h"

namespace patrickstar {

inline double as_double(float x) { return x; }
inline double as_double(std::uint16_t bf16) { return bf16_to_float(bf16); }

// Destroys `lanes`.
inline double fold_lanes(double (&lanes)[kNormLanes]) {
  for (int half = kNormLanes / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

// A block of `count` <= kNormBlockElems elements.
template <class T>
double block_sum_scalar(const T* x, Elems count) {
  double lanes[kNormLanes] = {};
  for (Elems i = 0; i < count; ++i) {
    const double value = as_double(x[i]);
    lanes[i % kNormLanes] += value * value;
  }
  return fold_lanes(lanes);
}

}  // namespace patrickstar
