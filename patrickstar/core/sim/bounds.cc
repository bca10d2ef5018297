#include "patrickstar/core/sim/bounds.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "patrickstar/core/base/check.h"

namespace patrickstar {
namespace {

// All that one moment does to one payload.
struct Touch {
  std::uint32_t payload = 0;
  AccessMode mode = AccessMode::kRead;  // the strongest of the moment's
  bool live_after = true;               // its next touch is no kCreate
  Bytes bytes = 0;
};

// The trace as the bounds need it: no payload twice in a moment.
struct Touches {
  std::vector<std::vector<Touch>> at;          // by moment
  std::vector<std::vector<std::size_t>> of;    // by payload: the moments that touch it, in order
  std::vector<std::vector<AccessMode>> modes;  // likewise
  std::vector<Bytes> bytes;                    // by payload
  std::vector<Bytes> needed;                   // by moment: bytes it touches
  std::size_t count = 0;

  explicit Touches(const Trace& trace)
      : at(trace.moments.size()), of(trace.payloads.size()), modes(trace.payloads.size()), needed(trace.moments.size(), 0) {
    for (const TracedPayload& payload : trace.payloads) bytes.push_back(payload.bytes);
    for (std::size_t t = 0; t < at.size(); ++t) {
      std::map<std::uint32_t, AccessMode> merged;
      for (const Access& access : trace.at(t)) {
        AccessMode& mode = merged.emplace(access.payload.value, access.mode).first->second;
        mode = std::max(mode, access.mode);
      }
      for (const auto& [payload, mode] : merged) {
        at[t].push_back({.payload = payload, .mode = mode, .bytes = bytes[payload]});
        of[payload].push_back(t);
        modes[payload].push_back(mode);
        needed[t] += bytes[payload];
        ++count;
      }
    }
    std::vector<std::size_t> seen(of.size(), 0);
    for (std::vector<Touch>& touches : at) {
      for (Touch& touch : touches) {
        const std::vector<AccessMode>& all = modes[touch.payload];
        const std::size_t next = ++seen[touch.payload] % all.size();
        touch.live_after = all[next] != AccessMode::kCreate;
      }
    }
  }
};

// A payload that stays from moment `begin` to moment `end` (both of which touch it) saves its bytes once.
struct Gap {
  std::uint32_t payload = 0;
  std::size_t begin = 0;
  std::size_t end = 0;  // begin < end <= begin + moments of the step
};

std::vector<Gap> read_gaps(const Touches& touches) {
  const std::size_t n = touches.at.size();
  std::vector<Gap> gaps;
  for (std::uint32_t p = 0; p < touches.of.size(); ++p) {
    const auto& of = touches.of[p];
    for (std::size_t i = 0; i < of.size(); ++i) {
      const std::size_t next = (i + 1) % of.size();
      if (touches.modes[p][next] == AccessMode::kCreate) continue;
      gaps.push_back({p, of[i], next > i ? of[next] : of[next] + n});
    }
  }
  return gaps;
}

// From a write to the last touch that needs what it wrote: the next kWrite, or the last read before a kCreate.
std::vector<Gap> write_gaps(const Touches& touches) {
  const std::size_t n = touches.at.size();
  std::vector<Gap> gaps;
  for (std::uint32_t p = 0; p < touches.of.size(); ++p) {
    const auto& of = touches.of[p];
    for (std::size_t i = 0; i < of.size(); ++i) {
      if (touches.modes[p][i] == AccessMode::kRead) continue;
      std::size_t end = of[i];
      for (std::size_t k = i + 1;; ++k) {  // ends at the latest at i itself, a step later
        const AccessMode mode = touches.modes[p][k % of.size()];
        if (mode == AccessMode::kCreate) break;
        end = of[k % of.size()] + (k >= of.size() ? n : 0);
        if (mode == AccessMode::kWrite) break;
      }
      if (end > of[i]) gaps.push_back({p, of[i], end});
    }
  }
  return gaps;
}

// The run of [Note: the bounds] over one kind of gaps: the fewest bytes, per step, of gaps that are not kept.
class GapRun {
 public:
  GapRun(const Touches& touches, const std::vector<Gap>& gaps, std::span<const Bytes> room)
      : touches_(touches),
        room_(room),
        n_(touches.at.size()),
        closes_(n_),
        opens_(n_),
        held_(touches.of.size(), 0),
        end_(touches.of.size(), kNone) {
    for (const Gap& gap : gaps) {
      opens_[gap.begin].push_back(gap);
      closes_[gap.end % n_].push_back(gap.payload);
      if (gap.end < n_) continue;
      // Open when the first step begins. All that was open may be there: the best start, so that no other run loses less.
      held_[gap.payload] = touches.bytes[gap.payload];
      end_[gap.payload] = gap.end - n_;
      insert(gap.payload);
    }
  }

  // Runs until a step ends as an earlier one did: the mean between the two is what the run loses for ever. Else the mean of all,
  // which can only be too low, by at most the room by the number of steps.
  Bytes lost_per_step() {
    std::map<std::vector<Bytes>, std::pair<int, Bytes>> seen;  // held_ after a step: which step, lost until then
    Bytes lost = 0;
    const int most = static_cast<int>(std::clamp<std::size_t>(kMostTouches / (touches_.count + 1), 50, 500));
    for (int step = 1; step <= most; ++step) {
      for (std::size_t t = 0; t < n_; ++t) lost += moment(static_cast<std::size_t>(step - 1) * n_ + t, t);
      const auto [found, is_new] = seen.emplace(held_, std::pair(step, lost));
      if (!is_new) return (lost - found->second.second) / (step - found->second.first);
    }
    return lost / most;
  }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  static constexpr std::size_t kMostTouches = 2'000'000;  // about half a second

  void insert(std::uint32_t payload) {
    kept_.insert({end_[payload], payload});
    kept_bytes_ += held_[payload];
  }
  void take_out(std::uint32_t payload) {
    if (kept_.erase({end_[payload], payload}) > 0) kept_bytes_ -= held_[payload];
  }

  Bytes moment(std::size_t now, std::size_t t) {
    for (const Touch& touch : touches_.at[t]) take_out(touch.payload);
    const Bytes room = std::max<Bytes>(0, room_[t] - touches_.needed[t]);
    while (kept_bytes_ > room) {
      const auto last = std::prev(kept_.end());
      const Bytes drop = std::min(held_[last->second], kept_bytes_ - room);
      held_[last->second] -= drop;
      kept_bytes_ -= drop;
      if (held_[last->second] == 0) kept_.erase(last);
    }
    Bytes lost = 0;
    for (const std::uint32_t payload : closes_[t]) {
      lost += touches_.bytes[payload] - held_[payload];
      held_[payload] = 0;
      end_[payload] = kNone;
    }
    for (const Gap& gap : opens_[t]) {
      held_[gap.payload] = touches_.bytes[gap.payload];
      end_[gap.payload] = now + (gap.end - gap.begin);
    }
    for (const Touch& touch : touches_.at[t]) {
      if (held_[touch.payload] > 0) insert(touch.payload);
    }
    return lost;
  }

  const Touches& touches_;
  const std::span<const Bytes> room_;
  const std::size_t n_;
  std::vector<std::vector<std::uint32_t>> closes_;        // by moment
  std::vector<std::vector<Gap>> opens_;                   // by moment
  std::vector<Bytes> held_;                               // by payload: of its open gap
  std::vector<std::size_t> end_;                          // by payload: when the open gap ends, counted from the first step
  std::set<std::pair<std::size_t, std::uint32_t>> kept_;  // by end: what is kept and not touched at this moment
  Bytes kept_bytes_ = 0;
};

// Walks every window [a, a + length) with U and D kept up to date.
class WindowScan {
 public:
  WindowScan(const Trace& trace, const Touches& touches, std::span<const Bytes> room, double bytes_per_second)
      : trace_(trace), touches_(touches), room_(room), nanos_per_byte_(1e9 / bytes_per_second), marks_(touches.of.size()) {}

  void run(StepBounds* bounds) {
    const std::size_t n = touches_.at.size();
    bounds->window_stride = (n * touches_.count) / kMostTouches + 1;
    double best = static_cast<double>(bounds->compute);
    for (std::size_t begin = 0; begin < n; begin += bounds->window_stride) {
      Bytes used = 0;     // U
      Bytes dirtied = 0;  // D
      Nanos outside = bounds->compute;
      for (std::size_t length = 1; length <= n; ++length) {
        const std::size_t t = begin + length - 1 < n ? begin + length - 1 : begin + length - 1 - n;
        outside -= trace_.moments[t].compute;
        for (const Touch& touch : touches_.at[t]) count(touch, begin + 1, &used, &dirtied);
        const Bytes moved = std::max<Bytes>(0, used - room_between(begin == 0 ? n - 1 : begin - 1, begin)) +
                            std::max<Bytes>(0, dirtied - room_between(t, t + 1 < n ? t + 1 : 0));
        const double bound = static_cast<double>(outside) + static_cast<double>(moved) * nanos_per_byte_;
        if (bound <= best) continue;
        best = bound;
        bounds->window_begin = begin;
        bounds->window_moments = length;
      }
    }
    bounds->window = static_cast<Nanos>(best);
  }

 private:
  static constexpr std::size_t kMostTouches = 400'000'000;

  // Which window (its begin + 1) last did what to a payload.
  struct Mark {
    std::size_t touched = 0;
    std::size_t written = 0;
    std::size_t counted = 0;  // in D
  };

  // Where one moment ends and the next begins, both rooms hold: the one's until then, the other's from its grant on.
  Bytes room_between(std::size_t before, std::size_t after) const { return std::min(room_[before], room_[after]); }

  void count(const Touch& touch, std::size_t window, Bytes* used, Bytes* dirtied) {
    Mark& mark = marks_[touch.payload];
    if (mark.touched != window) {
      mark.touched = window;
      if (touch.mode != AccessMode::kCreate) *used += touch.bytes;
    }
    if (touch.mode != AccessMode::kRead) mark.written = window;
    const bool counts = mark.written == window && touch.live_after;
    if (counts == (mark.counted == window)) return;
    *dirtied += counts ? touch.bytes : -touch.bytes;
    mark.counted = counts ? window : 0;
  }

  const Trace& trace_;
  const Touches& touches_;
  const std::span<const Bytes> room_;
  const double nanos_per_byte_;
  std::vector<Mark> marks_;
};

}  // namespace

std::vector<Bytes> room_for_chunks(const Trace& trace, Bytes budget) {
  std::vector<Bytes> room;
  for (const Moment& moment : trace.moments) room.push_back(std::max<Bytes>(0, budget - moment.non_model));
  return room;
}

StepBounds step_bounds(const Trace& trace, std::span<const Bytes> room, double bytes_per_second) {
  PS_CHECK(room.size() == trace.moments.size() && bytes_per_second > 0);
  const Touches touches(trace);
  StepBounds bounds;
  for (std::size_t t = 0; t < room.size(); ++t) bounds.lacking = std::max(bounds.lacking, touches.needed[t] - room[t]);
  bounds.min_read = GapRun(touches, read_gaps(touches), room).lost_per_step();
  bounds.min_write = GapRun(touches, write_gaps(touches), room).lost_per_step();
  bounds.compute = trace.compute();
  bounds.transfers = static_cast<Nanos>(static_cast<double>(bounds.min_read + bounds.min_write) * 1e9 / bytes_per_second);
  WindowScan(trace, touches, room, bytes_per_second).run(&bounds);
  bounds.limit = std::max({bounds.compute, bounds.transfers, bounds.window});
  return bounds;
}

}  // namespace patrickstar
