// The clock is injected: tests and the simulator run on a virtual one.
#pragma once

#include <chrono>

#include "patrickstar/core/base/units.h"

namespace patrickstar {

class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since an arbitrary origin; never goes back. Any thread.
  virtual Nanos now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  Nanos now() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
};

}  // namespace patrickstar
