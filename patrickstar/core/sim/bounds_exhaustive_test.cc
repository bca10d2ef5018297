// The traffic bounds against every schedule there is, on steps small enough to try them all.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/testing/random_steps.h"
#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

// The fewest bytes a step, on average for ever, that any schedule of whole payloads moves: read and written bytes each with a
// weight of 0 or 1. A state says of each payload whether it is away, clean or dirty; before each moment any payload may go.
class AllSchedules {
 public:
  AllSchedules(const Trace& trace, const std::vector<Bytes>& room, int read_weight, int write_weight)
      : trace_(trace), room_(room), read_weight_(read_weight), write_weight_(write_weight) {
    for (std::size_t i = 0; i < trace.payloads.size(); ++i) states_ *= 3;
  }

  double least_per_step() const {
    std::vector<std::vector<double>> cost;  // of one step, from state to state
    for (int from = 0; from < states_; ++from) {
      std::vector<double> now(static_cast<std::size_t>(states_), kNever);
      now[static_cast<std::size_t>(from)] = 0;
      for (std::size_t t = 0; t < trace_.moments.size(); ++t) now = after(now, t);
      cost.push_back(now);
    }
    return least_mean_cycle(cost);
  }

 private:
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  enum Where { kAway, kClean, kDirty };

  bool created_next(std::uint32_t payload, std::size_t t) const {
    for (std::size_t i = 0; i < trace_.moments.size(); ++i) {
      for (const Access& access : trace_.at((t + i) % trace_.moments.size())) {
        if (access.payload.value == payload) return access.mode == AccessMode::kCreate;
      }
    }
    return false;
  }

  std::vector<double> after(const std::vector<double>& before, std::size_t t) const {
    std::vector<double> result(before.size(), kNever);
    for (int state = 0; state < states_; ++state) {
      if (before[static_cast<std::size_t>(state)] == kNever) continue;
      choose(t, state, 0, 1, 0, before[static_cast<std::size_t>(state)], 0, &result);
    }
    return result;
  }

  // Decides for the payloads from `payload` on; `place` is 3^payload.
  void choose(std::size_t t, int state, std::uint32_t payload, int place, int next, double cost, Bytes used,
              std::vector<double>* result) const {
    if (used > room_[t]) return;
    if (payload == trace_.payloads.size()) {
      double& best = (*result)[static_cast<std::size_t>(next)];
      best = std::min(best, cost);
      return;
    }
    const Bytes bytes = trace_.payloads[payload].bytes;
    const int was = state / place % 3;
    const double away = was == kDirty && !created_next(payload, t) ? static_cast<double>(write_weight_ * bytes) : 0;
    const auto go_on = [&](int is, double more) {
      choose(t, state, payload + 1, place * 3, next + place * is, cost + more, used + (is == kAway ? 0 : bytes), result);
    };
    const Access* mine = nullptr;
    for (const Access& access : trace_.at(t)) {
      if (access.payload.value == payload) mine = &access;
    }
    const double fetch = static_cast<double>(read_weight_ * bytes);
    if (mine == nullptr) {
      go_on(was, 0);
      if (was != kAway) go_on(kAway, away);
      if (was == kDirty) go_on(kClean, away);
    } else if (mine->mode == AccessMode::kRead) {
      if (was == kAway) go_on(kClean, fetch);
      if (was != kAway) go_on(was, 0);
      if (was == kDirty) go_on(kClean, away);
    } else {
      go_on(kDirty, was == kAway && mine->mode == AccessMode::kWrite ? fetch : 0);
      // Written back before it is written again: what a schedule with little room must do.
      if (was == kDirty) go_on(kDirty, away);
    }
  }

  // Karp: the least mean weight of a cycle, over walks of 0 to S edges from anywhere.
  static double least_mean_cycle(const std::vector<std::vector<double>>& cost) {
    const std::size_t s = cost.size();
    std::vector<std::vector<double>> least(s + 1, std::vector<double>(s, kNever));
    least[0].assign(s, 0);
    for (std::size_t k = 1; k <= s; ++k) {
      for (std::size_t i = 0; i < s; ++i) {
        for (std::size_t j = 0; j < s; ++j) least[k][j] = std::min(least[k][j], least[k - 1][i] + cost[i][j]);
      }
    }
    double best = kNever;
    for (std::size_t j = 0; j < s; ++j) {
      if (least[s][j] == kNever) continue;
      double worst = 0;
      for (std::size_t k = 0; k < s; ++k) {
        if (least[k][j] != kNever) worst = std::max(worst, (least[s][j] - least[k][j]) / static_cast<double>(s - k));
      }
      best = std::min(best, worst);
    }
    return best;
  }

  const Trace& trace_;
  const std::vector<Bytes>& room_;
  const int read_weight_;
  const int write_weight_;
  int states_ = 1;
};

class AgainstAllSchedules : public testing::TestWithParam<Sizes> {};

TEST_P(AgainstAllSchedules, NoScheduleMovesLessAndForUnitsOneMovesNoMore) {
  const std::uint32_t seed = test_seed(5);
  std::mt19937 random(seed);
  int with_both = 0;  // reads and writes that cannot be avoided
  for (int i = 0; i < 150; ++i) {
    const RandomCase tried = random_case(random, GetParam());
    const std::string which = "seed " + std::to_string(seed) + " case " + std::to_string(i);
    const StepBounds bounds = step_bounds(tried.trace, tried.room, 1e9);
    ASSERT_LE(bounds.lacking, 0) << which;
    if (bounds.min_read > 0 && bounds.min_write > 0) ++with_both;
    const double reads = AllSchedules(tried.trace, tried.room, 1, 0).least_per_step();
    const double writes = AllSchedules(tried.trace, tried.room, 0, 1).least_per_step();
    const double both = AllSchedules(tried.trace, tried.room, 1, 1).least_per_step();
    const double slack = 1e-6 * static_cast<double>(kUnit);
    ASSERT_LE(static_cast<double>(bounds.min_read), reads + slack) << which;
    ASSERT_LE(static_cast<double>(bounds.min_write), writes + slack) << which;
    ASSERT_LE(static_cast<double>(bounds.min_read + bounds.min_write), both + slack) << which;
    if (GetParam() == Sizes::kMixed) continue;
    ASSERT_NEAR(static_cast<double>(bounds.min_read), reads, slack) << which;
    ASSERT_NEAR(static_cast<double>(bounds.min_write), writes, slack) << which;
  }
  EXPECT_GT(with_both, 30);
}
INSTANTIATE_TEST_SUITE_P(Bounds, AgainstAllSchedules, testing::Values(Sizes::kUnits, Sizes::kMixed),
                         [](const auto& made) { return made.param == Sizes::kUnits ? "Units" : "Mixed"; });

}  // namespace
}  // namespace patrickstar
