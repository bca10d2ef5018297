#include "patrickstar/core/policy/non_model_peaks.h"

#include <utility>

namespace patrickstar {
namespace {

constexpr int kLongestWindow = 64;

Bytes most_of(const std::vector<Bytes>& values) { return values.empty() ? 0 : *std::max_element(values.begin(), values.end()); }

}  // namespace

void NonModelPeaks::planned(const Trace& trace) {
  planned_.clear();
  for (const Moment& moment : trace.moments) planned_.push_back(moment.non_model);
  forget_pass();
  look_anew();
}

void NonModelPeaks::look_anew() {
  recent_.assign(planned_.size(), 0);
  calm_steps_ = 0;
}

NonModelPeaks::Verdict NonModelPeaks::step_done(bool calm, Bytes slack, Bytes worth, Trace* to) {
  bool more = false;
  bool reaches = false;  // about as high as the plan's peak
  const Bytes peak = most_of(planned_);
  for (std::size_t m = 0; m < pass_.size(); ++m) {
    const Bytes seen = std::exchange(pass_[m], kNotSeen);
    if (seen != kNotSeen) {
      more = more || seen > planned_[m] + slack;
      to->moments[m].non_model = std::max(to->moments[m].non_model, seen);
    }
    const Bytes needed = seen == kNotSeen ? planned_[m] : seen;  // as far as is known
    if (calm || seen != kNotSeen) reaches = reaches || needed + worth >= peak;
    if (calm) recent_[m] = std::max(recent_[m], needed);
  }
  if (more && std::exchange(took_less_, false)) window_ = std::min(2 * window_, kLongestWindow);
  if (reaches) look_anew();
  if (calm && !reaches) ++calm_steps_;
  if (calm_steps_ < window_) return more ? Verdict::kMore : Verdict::kAsPlanned;
  took_less_ = true;
  for (std::size_t m = 0; m < recent_.size(); ++m) to->moments[m].non_model = recent_[m];
  look_anew();
  return Verdict::kLessForGood;
}

}  // namespace patrickstar
