// How long a step computes by its tokens, from what was measured, and which tokens make it compute for a wanted time. Pure.
#pragma once

#include <cstdint>
#include <map>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"

namespace patrickstar::cli {

struct TokenShape {
  std::int64_t batch = 0;
  std::int64_t sequence = 0;
  std::int64_t tokens() const { return batch * sequence; }
  friend auto operator<=>(const TokenShape&, const TokenShape&) = default;
};

inline constexpr std::int64_t kTokenStep = 32;         // sequences are multiples of this
inline constexpr std::int64_t kLongestSequence = 512;  // longer ones are split, where the model could take them

// The shape with the nearest number of tokens: few sequences of at most `longest`.
TokenShape shape_of(double tokens, std::int64_t longest);

// Straight lines between the measured points. Updating the parameters takes its time whatever the tokens, so the line does not
// go through nothing: a step has a least time.
class StepCurve {
 public:
  struct Point {
    double seconds = 0;
    double non_model = 0;  // peak, bytes
  };
  // The same number of tokens again replaces what was known.
  void add(std::int64_t tokens, Point point) { points_[tokens] = point; }
  // REQUIRES: two points. Beyond the last ones their line goes on; non-model bytes likewise.
  Point at(double tokens) const;
  // The fewest tokens that compute so long. REQUIRES: two points.
  double tokens_for(double seconds) const;
  const std::map<std::int64_t, Point>& points() const { return points_; }

 private:
  std::map<std::int64_t, Point> points_;
};

struct WantedSetting {
  double share = 0;  // of the model data, in the budget
  double ratio = 0;  // compute by transfers; 0: whatever comes out, the tokens are given
};
struct MachineFacts {
  Bytes model_data = 0;
  double bytes_per_second = 0;  // of the disk
  Bytes spare = 0;              // that a step has at its tightest moment beyond the share, as last seen
  Bytes memory = 0;             // for a run that holds everything and one within the budget, side by side
  std::int64_t longest = kLongestSequence;
};

// What a run that holds everything may need: all model data, gradients beside their parameters (a seventh more in 16-bit
// training: then they stay where autograd made them), non-model bytes, and partly used pages.
Bytes fitting_budget(Bytes model_data, Bytes non_model);

// Errors: kUnavailable, with the arithmetic: the machine cannot reach it.
Result<TokenShape> choose_tokens(const WantedSetting& wanted, const MachineFacts& machine, const StepCurve& curve);

}  // namespace patrickstar::cli
