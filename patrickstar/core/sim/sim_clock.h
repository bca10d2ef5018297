// SimClock: the simulator's time. Only the timeline moves it (timeline.h).
#pragma once

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/clock.h"

namespace patrickstar {

// One thread.
class SimClock final : public Clock {
 public:
  Nanos now() const override { return now_; }
  // REQUIRES: `to` is not in the past.
  void move_to(Nanos to) {
    PS_CHECK(to >= now_);
    now_ = to;
  }

 private:
  Nanos now_ = 0;
};

}  // namespace patrickstar
