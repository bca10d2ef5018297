// The limit against every schedule there is in time, on steps small enough to try them all.
//
// Time goes in ticks, in each of which the disk moves one payload of one unit, or nothing. Computing takes whole ticks. A
// schedule may also let bytes go or wait at any tick. Where the next moment is not granted yet, no room binds: more than a real
// machine may do, so the shortest step found here is at most the real one's, and the limit must not be above it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <limits>
#include <queue>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/testing/seed.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

constexpr Bytes kTickBytes = Bytes{1} << 20;
constexpr Nanos kTick = 1'000'000;
constexpr double kBandwidth = static_cast<double>(kTickBytes) * 1e9 / static_cast<double>(kTick);
constexpr int kNever = std::numeric_limits<int>::max() / 4;

enum Where { kAway, kClean, kDirty };

class AllTimelines {
 public:
  AllTimelines(const Trace& trace, const std::vector<Bytes>& room) : trace_(trace), room_(room) {
    for (std::size_t i = 0; i < trace.payloads.size(); ++i) sets_ *= 3;
    // A node: a moment, the ticks of it that are left (all but the last: it has not been granted yet), where each payload is.
    for (const Moment& moment : trace.moments) {
      first_node_.push_back(nodes_);
      nodes_ += static_cast<int>(moment.compute / kTick + 2) * sets_;
    }
  }

  // The fewest ticks of `steps` steps from any state, by step.
  double ticks_per_step(int steps) const {
    std::vector<int> now(static_cast<std::size_t>(sets_), 0);
    for (int i = 0; i < steps; ++i) now = step(now);
    return static_cast<double>(*std::min_element(now.begin(), now.end())) / steps;
  }

 private:
  int phases(std::size_t t) const { return static_cast<int>(trace_.moments[t].compute / kTick) + 2; }
  // phase: phases - 1 before the grant, then the ticks of compute that are left.
  int node(std::size_t t, int phase, int set) const { return first_node_[t] + phase * sets_ + set; }
  int where(int set, std::size_t payload) const {
    for (std::size_t i = 0; i < payload; ++i) set /= 3;
    return set % 3;
  }
  int with(int set, std::size_t payload, int is) const {
    int place = 1;
    for (std::size_t i = 0; i < payload; ++i) place *= 3;
    return set + (is - set / place % 3) * place;
  }
  Bytes used(int set) const {
    Bytes sum = 0;
    for (std::size_t i = 0; i < trace_.payloads.size(); ++i) sum += where(set, i) == kAway ? 0 : kTickBytes;
    return sum;
  }
  bool may_be(std::size_t t, int set) const {  // while moment t computes
    if (used(set) > room_[t]) return false;
    for (const Access& access : trace_.at(t)) {
      if (where(set, access.payload.index()) == kAway) return false;
    }
    return true;
  }
  bool dead(std::size_t payload, std::size_t t) const {  // created anew before any other use, from moment t on
    for (std::size_t i = 0; i < trace_.moments.size(); ++i) {
      for (const Access& access : trace_.at((t + i) % trace_.moments.size())) {
        if (access.payload.index() == payload) return access.mode == AccessMode::kCreate;
      }
    }
    return false;
  }

  std::vector<int> step(const std::vector<int>& begin) const {
    std::vector<int> best(static_cast<std::size_t>(nodes_), kNever);
    std::vector<int> end(static_cast<std::size_t>(sets_), kNever);
    using Entry = std::pair<int, int>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open;
    const auto reach = [&](int to, int ticks) {
      if (ticks >= best[static_cast<std::size_t>(to)]) return;
      best[static_cast<std::size_t>(to)] = ticks;
      open.push({ticks, to});
    };
    for (int set = 0; set < sets_; ++set) {
      if (begin[static_cast<std::size_t>(set)] < kNever) reach(node(0, phases(0) - 1, set), begin[static_cast<std::size_t>(set)]);
    }
    while (!open.empty()) {
      const auto [ticks, at] = open.top();
      open.pop();
      if (ticks > best[static_cast<std::size_t>(at)]) continue;
      std::size_t t = 0;
      while (t + 1 < first_node_.size() && first_node_[t + 1] <= at) ++t;
      const int phase = (at - first_node_[t]) / sets_;
      const int set = (at - first_node_[t]) % sets_;
      const bool granted = phase < phases(t) - 1;
      const auto go = [&](int next_phase, int next_set, int more) {
        const bool computes = next_phase < phases(t) - 1;
        if (!computes || may_be(t, next_set)) reach(node(t, next_phase, next_set), ticks + more);
      };
      // For nothing: let clean or dead bytes go, be granted, go on to the next moment.
      for (std::size_t p = 0; p < trace_.payloads.size(); ++p) {
        const int is = where(set, p);
        if (is == kClean || (is == kDirty && dead(p, granted ? t + 1 : t))) go(phase, with(set, p, kAway), 0);
      }
      if (!granted) {
        int after = set;
        bool there = true;
        for (const Access& access : trace_.at(t)) {
          const std::size_t p = access.payload.index();
          there = there && (where(set, p) != kAway || access.mode == AccessMode::kCreate);
          if (access.mode != AccessMode::kRead) after = with(after, p, kDirty);
        }
        if (there) go(phases(t) - 2, after, 0);
      } else if (phase == 0) {
        if (t + 1 < trace_.moments.size()) {
          reach(node(t + 1, phases(t + 1) - 1, set), ticks);
        } else {
          end[static_cast<std::size_t>(set)] = std::min(end[static_cast<std::size_t>(set)], ticks);
        }
      }
      // One tick, with one transfer or none.
      if (granted && phase == 0) continue;
      const int next_phase = granted ? phase - 1 : phase;
      go(next_phase, set, 1);
      for (std::size_t p = 0; p < trace_.payloads.size(); ++p) {
        if (where(set, p) != kClean) go(next_phase, with(set, p, kClean), 1);  // fetched, or written back
      }
    }
    return end;
  }

  const Trace& trace_;
  const std::vector<Bytes>& room_;
  int sets_ = 1;
  int nodes_ = 0;
  std::vector<int> first_node_;
};

TEST(BoundsInTime, NoScheduleIsShorterThanTheLimit) {
  const std::uint32_t seed = test_seed(7);
  std::mt19937 random(seed);
  int by_window = 0;
  int reached = 0;
  int of_two = 0;  // moments
  for (int i = 0; i < 500; ++i) {
    const std::size_t payloads = 2 + random() % 3;
    std::vector<MomentSpec> steps(2 + random() % 4);
    std::vector<Bytes> room;
    for (MomentSpec& step : steps) {
      step.compute = kTick * static_cast<Nanos>(random() % 4);
      const auto first = static_cast<std::uint32_t>(random() % payloads);
      const auto kind = random() % 8;
      step.accesses.push_back(kind < 5 ? writes(first) : kind < 7 ? reads(first) : creates(first));
      // Two together are also what one payload of twice the length would be.
      if (random() % 3 == 0) {
        const auto second = static_cast<std::uint32_t>((first + 1 + random() % (payloads - 1)) % payloads);
        step.accesses.push_back(random() % 3 == 0 ? reads(second) : writes(second));
        ++of_two;
      }
      room.push_back(kTickBytes * static_cast<Bytes>(step.accesses.size() + random() % (payloads + 1 - step.accesses.size())));
    }
    const Trace trace = trace_of(std::vector<Bytes>(payloads, kTickBytes), steps);
    const StepBounds bounds = step_bounds(trace, room, kBandwidth);
    constexpr int kSteps = 60;
    const double found = AllTimelines(trace, room).ticks_per_step(kSteps) * static_cast<double>(kTick);
    // The first step may begin with everything there and the last leave all unwritten: by at most 8 ticks of all.
    ASSERT_LE(static_cast<double>(bounds.limit), found + 8.0 * static_cast<double>(kTick) / kSteps)
        << "seed " << seed << " case " << i;
    if (bounds.window > std::max(bounds.compute, bounds.transfers)) ++by_window;
    if (static_cast<double>(bounds.limit) >= 0.98 * found) ++reached;
  }
  std::printf("%d limits are a window's, %d were reached\n", by_window, reached);
  EXPECT_GT(by_window, 20);
  EXPECT_GT(reached, 100);
  EXPECT_GT(of_two, 300);
}

}  // namespace
}  // namespace patrickstar
