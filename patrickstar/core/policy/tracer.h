// Tracer: writes down one step as it happens. Not thread-safe: under the manager's lock.
#pragma once

#include <vector>

#include "patrickstar/core/policy/schedule.h"
#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

class Tracer {
 public:
  // Of a step that does not end (nobody calls step(): inference) no more is kept, and nothing is left of it: some 30 bytes each.
  static constexpr std::size_t kMostMoments = std::size_t{1} << 20;

  void added(PayloadId payload, PayloadKind kind, Bytes bytes);
  void removed(PayloadId payload);
  // A payload that is named twice is written down once, with the stronger mode.
  void granted(std::span<const Access> accesses, const MomentFacts& facts);
  void restart();
  // The step until now, with what the last moment saw; begins the next.
  Trace finish(const MomentFacts& facts);
  std::size_t moments() const { return trace_.moments.size(); }

 private:
  Trace trace_;
  bool too_long_ = false;  // this step is
};

// One entry a payload, in the order of its first, with the strongest mode: kCreate only if all are. REQUIRES: *to is empty.
void normalise(std::span<const Access> accesses, std::vector<Access>* to);

}  // namespace patrickstar
