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
  pass_.assign(planned_.size(), 0);
  recent_.assign(planned_.size(), 0);
  calm_steps_ = 0;
}

NonModelPeaks::Verdict NonModelPeaks::step_done(bool calm, Bytes slack, Bytes worth, Trace* to) {
  bool more = false;
  for (std::size_t m = 0; m < pass_.size(); ++m) {
    const Bytes seen = std::exchange(pass_[m], 0);
    more = more || seen > planned_[m] + slack;
    recent_[m] = std::max(recent_[m], seen);
    to->moments[m].non_model = std::max(to->moments[m].non_model, seen);
  }
  if (more) {
    if (std::exchange(took_less_, false)) window_ = std::min(2 * window_, kLongestWindow);
    calm_steps_ = 0;
    recent_.assign(recent_.size(), 0);
    return Verdict::kMore;
  }
  calm_steps_ = calm ? calm_steps_ + 1 : 0;
  if (calm_steps_ < window_) {
    if (!calm) recent_.assign(recent_.size(), 0);
    return Verdict::kAsPlanned;
  }
  const bool less = most_of(planned_) - most_of(recent_) > worth;
  if (less) {
    took_less_ = true;
    for (std::size_t m = 0; m < recent_.size(); ++m) to->moments[m].non_model = recent_[m];
  }
  calm_steps_ = 0;
  recent_.assign(recent_.size(), 0);
  return less ? Verdict::kLessForGood : Verdict::kAsPlanned;
}

}  // namespace patrickstar
