#include "apps/cli/bench/step_curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/base/text.h"

namespace patrickstar::cli {
namespace {

// By how much the smallest step may exceed the wanted compute and still stand for it.
constexpr double kNearEnough = 1.1;

Status unreachable(const WantedSetting& wanted, const std::string& why) {
  return Status(StatusCode::kUnavailable,
                fmt::format("budget {:.0f} %, compute {:g} x transfers: {}", 100 * wanted.share, wanted.ratio, why));
}

}  // namespace

TokenShape shape_of(double tokens, std::int64_t longest) {
  longest = std::max(kTokenStep, round_down(std::min(longest, kLongestSequence), kTokenStep));
  const auto wanted = std::max(kTokenStep, static_cast<std::int64_t>(std::llround(tokens)));
  TokenShape shape{.batch = ceil_div(wanted - kTokenStep / 2, longest)};
  const double each = static_cast<double>(wanted) / static_cast<double>(shape.batch * kTokenStep);
  shape.sequence = std::clamp(static_cast<std::int64_t>(std::llround(each)) * kTokenStep, kTokenStep, longest);
  return shape;
}

StepCurve::Point StepCurve::at(double tokens) const {
  PS_CHECK(points_.size() >= 2);
  auto right = std::next(points_.begin());
  while (std::next(right) != points_.end() && static_cast<double>(right->first) < tokens) ++right;
  const auto left = std::prev(right);
  const double part = (tokens - static_cast<double>(left->first)) / static_cast<double>(right->first - left->first);
  const auto between = [part](double a, double b) { return a + part * (b - a); };
  return {.seconds = between(left->second.seconds, right->second.seconds),
          .non_model = std::max(0.0, between(left->second.non_model, right->second.non_model))};
}

double StepCurve::tokens_for(double seconds) const {
  PS_CHECK(points_.size() >= 2);
  for (auto right = std::next(points_.begin()); right != points_.end(); ++right) {
    const auto left = std::prev(right);
    const double rise = right->second.seconds - left->second.seconds;
    if (rise <= 0 || (seconds > right->second.seconds && std::next(right) != points_.end())) continue;
    const double part = (seconds - left->second.seconds) / rise;
    return static_cast<double>(left->first) + part * static_cast<double>(right->first - left->first);
  }
  return static_cast<double>(points_.rbegin()->first);
}

Bytes fitting_budget(Bytes model_data, Bytes non_model) { return model_data + non_model + model_data / 6 + 256 * kMiB; }

Result<TokenShape> choose_tokens(const WantedSetting& wanted, const MachineFacts& machine, const StepCurve& curve) {
  // At the tightest moment so much does not fit: it is read and written once a step (limits.md).
  const double away = (1 - wanted.share) * static_cast<double>(machine.model_data) - static_cast<double>(machine.spare);
  if (away <= 0) {
    return unreachable(wanted,
                       fmt::format("nothing has to leave memory: {:.0f} % of {} fit into the {} that steps leave free",
                                   100 * (1 - wanted.share), format_bytes(machine.model_data), format_bytes(machine.spare)));
  }
  const double transfers = 2 * away / machine.bytes_per_second;
  const double compute = wanted.ratio * transfers;
  const double least = curve.at(static_cast<double>(kTokenStep)).seconds;
  if (least > kNearEnough * compute) {
    return unreachable(
        wanted,
        fmt::format("1 x {} tokens compute for {:.2f} s already, {:.2f} x the transfers (2 x {} at {:.2f} GB/s: {:.2f} s)",
                    kTokenStep, least, least / transfers, format_bytes(static_cast<Bytes>(away)), machine.bytes_per_second * 1e-9,
                    transfers));
  }
  const TokenShape shape = shape_of(curve.tokens_for(compute), machine.longest);
  const auto non_model = static_cast<Bytes>(curve.at(static_cast<double>(shape.tokens())).non_model);
  const Bytes budget = non_model + static_cast<Bytes>(wanted.share * static_cast<double>(machine.model_data));
  const Bytes fitting = fitting_budget(machine.model_data, non_model);
  if (budget + fitting > machine.memory) {
    return unreachable(wanted,
                       fmt::format("it takes {} x {} tokens to compute for {:.2f} s, whose run that holds everything ({}) and "
                                   "run within the budget ({}) do not go into the {} of memory that are free",
                                   shape.batch, shape.sequence, compute, format_bytes(fitting), format_bytes(budget),
                                   format_bytes(machine.memory)));
  }
  return shape;
}

}  // namespace patrickstar::cli
