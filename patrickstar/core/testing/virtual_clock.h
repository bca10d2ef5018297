// VirtualClock: time that moves only when a test says so.
#pragma once

#include <atomic>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/clock.h"

namespace patrickstar {

class VirtualClock final : public Clock {
 public:
  Nanos now() const override { return now_.load(std::memory_order_relaxed); }
  // REQUIRES: by >= 0
  void advance(Nanos by) {
    PS_CHECK(by >= 0);
    now_.fetch_add(by, std::memory_order_relaxed);
  }

 private:
  std::atomic<Nanos> now_ = 0;
};

}  // namespace patrickstar
