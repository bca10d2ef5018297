// NonModelPeaks: whether steps need as much beside chunks as the step that was planned from. Not thread-safe.
//
// [Note: longer and shorter steps] More than planned is noticed as kept payloads give way to it. Less (shorter sequences from now
// on) disturbs nobody, but room lies idle: when some calm steps in a row stay below the plan's peak, theirs is planned with.
// Steps that deviate are passed over, and a moment that was not seen counts as planned. If a longer step comes after all, the
// next look takes twice as many steps, 64 at most; lengths in turn are planned for by the longest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

class NonModelPeaks {
 public:
  enum class Verdict : std::uint8_t {
    kAsPlanned,
    kMore,         // somewhere by more than `slack`
    kLessForGood,  // the greatest by more than `worth`, and that in all of the last steps
  };

  // A plan was made from `trace`.
  void planned(const Trace& trace);
  // Since the last moment that was in the plan.
  void saw(std::size_t moment, Bytes non_model) { pass_[moment] = std::max(pass_[moment], non_model); }
  // What was seen since the step began was none of it.
  void forget_pass() { pass_.assign(planned_.size(), kNotSeen); }
  // A step ended. `calm`: it went through the planned moments. `to`: the plan's trace, gets what was seen: the most ever, or with
  // kLessForGood that of the last steps. A plan is to be made from it then.
  Verdict step_done(bool calm, Bytes slack, Bytes worth, Trace* to);

 private:
  static constexpr Bytes kNotSeen = -1;
  void look_anew();

  std::vector<Bytes> planned_;  // all three by moment
  std::vector<Bytes> pass_;     // of the step under way
  std::vector<Bytes> recent_;   // the most of `calm_steps_`
  int calm_steps_ = 0;          // in a row
  int window_ = 4;              // calm steps to look back on
  bool took_less_ = false;      // the plan is one of a verdict kLessForGood
};

}  // namespace patrickstar
