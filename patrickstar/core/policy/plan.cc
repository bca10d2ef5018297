#include "patrickstar/core/policy/plan.h"

#include <algorithm>
#include <utility>

#include "patrickstar/core/policy/occupancy.h"

namespace patrickstar {
namespace {

constexpr std::uint32_t kNone = UINT32_MAX;
constexpr Bytes kFewestInRing = 4;  // tiles, some on their way in and some on their way out
constexpr Bytes kRingShare = 40;    // of what streams

// [Note: gaps]
struct Gap {
  std::uint32_t access = 0;  // at its start
  std::uint32_t next = 0;    // access at its end
  std::uint32_t from = 0;    // moments
  std::uint32_t to = 0;
  std::uint32_t length = 0;  // in moments; the whole step for a payload that is used once
  Bytes bytes = 0;
  bool saves_read = false;
  bool dirty = false;  // written at its start
  PayloadKind kind = PayloadKind::kParam;
};

std::vector<Gap> gaps_of(const Trace& trace) {
  const auto moments = static_cast<std::uint32_t>(trace.moments.size());
  std::vector<std::uint32_t> moment_of(trace.accesses.size());
  for (std::uint32_t m = 0; m < moments; ++m) {
    for (std::uint32_t i = 0; i < trace.moments[m].count; ++i) moment_of[trace.moments[m].first + i] = m;
  }
  std::vector<std::uint32_t> first(trace.payloads.size(), kNone);
  std::vector<std::uint32_t> last(trace.payloads.size(), kNone);
  std::vector<Gap> gaps;
  const auto add = [&](std::uint32_t from, std::uint32_t to) {
    const PayloadId payload = trace.accesses[from].payload;
    const std::uint32_t i = moment_of[from];
    const std::uint32_t j = moment_of[to];
    gaps.push_back({.access = from,
                    .next = to,
                    .from = i,
                    .to = j,
                    .length = j > i ? j - i : j + moments - i,
                    .bytes = trace.bytes_of(payload),
                    .saves_read = trace.accesses[to].mode != AccessMode::kCreate,
                    .dirty = trace.accesses[from].mode != AccessMode::kRead,
                    .kind = trace.payloads[payload.index()].kind});
  };
  for (std::uint32_t a = 0; a < trace.accesses.size(); ++a) {
    const std::size_t payload = trace.accesses[a].payload.index();
    if (last[payload] == kNone) {
      first[payload] = a;
    } else {
      add(last[payload], a);
    }
    last[payload] = a;
  }
  for (std::size_t payload = 0; payload < last.size(); ++payload) {
    if (last[payload] != kNone) add(last[payload], first[payload]);
  }
  return gaps;
}

// The largest payload of state that is used; of any kind where there is no state.
Bytes largest_tile(const Trace& trace) {
  Bytes of_state = 0;
  Bytes of_all = 0;
  for (const Access& access : trace.accesses) {
    const TracedPayload& payload = trace.payloads[access.payload.index()];
    of_all = std::max(of_all, payload.bytes);
    if (payload.kind == PayloadKind::kState) of_state = std::max(of_state, payload.bytes);
  }
  return of_state > 0 ? of_state : of_all;
}

bool retain(const Gap& gap, Occupancy* occupancy, std::vector<std::uint8_t>* keep) {
  if (occupancy->room_between(gap.from, gap.to) < gap.bytes) return false;
  occupancy->take_between(gap.from, gap.to, gap.bytes);
  (*keep)[gap.access] = 1;
  return true;
}

// All or none. Judged moment by moment, as the sum of all gaps counts a tile at its own moment twice.
bool retain_all(const std::vector<Gap>& gaps, Occupancy* occupancy, std::vector<std::uint8_t>* keep) {
  Occupancy rest = *occupancy;
  std::vector<std::uint8_t> all = *keep;
  for (const Gap& gap : gaps) {
    if (!retain(gap, &rest, &all)) return false;
  }
  *occupancy = std::move(rest);
  *keep = std::move(all);
  return true;
}

// What streams gathers credit from use to use, like a link of constant speed, and no more of it than there is room ahead.
struct Spread {
  std::vector<double> weights;  // by gap: bytes that a link which moves all the state in a step would bring until its use
  std::vector<double> most;     // by gap: bytes that can lie ahead when it is used, and its own on their way
};

// Which of the long gaps of state stay, for a share `streamed` of all their bytes. [Note: gaps]
std::vector<bool> staying(const std::vector<Gap>& gaps, const Spread& spread, double streamed) {
  std::vector<bool> stays(gaps.size());
  double credit = 0;
  for (std::size_t i = 0; i < gaps.size(); ++i) {
    const auto bytes = static_cast<double>(gaps[i].bytes);
    credit = std::min(credit + streamed * spread.weights[i], spread.most[i]);
    stays[i] = credit < bytes;
    if (!stays[i]) credit -= bytes;
  }
  return stays;
}

Bytes bytes_staying(const std::vector<Gap>& gaps, const std::vector<bool>& stays) {
  Bytes sum = 0;
  for (std::size_t i = 0; i < gaps.size(); ++i) sum += stays[i] ? gaps[i].bytes : 0;
  return sum;
}

Spread spread_of(const std::vector<Gap>& gaps, const Trace& trace, double by_time, Bytes ring, const Occupancy& occupancy) {
  const auto moments = static_cast<std::uint32_t>(trace.moments.size());
  Bytes total = 0;
  for (const Gap& gap : gaps) total += gap.bytes;
  std::vector<Nanos> before(trace.moments.size() + 1, 0);
  for (std::size_t m = 0; m < trace.moments.size(); ++m) before[m + 1] = before[m] + trace.moments[m].compute;
  const double seconds = static_cast<double>(std::max<Nanos>(1, before.back()));
  Spread spread;
  for (std::size_t i = 0; i < gaps.size(); ++i) {
    const Gap& last = i > 0 ? gaps[i - 1] : gaps.back();
    const bool round = i == 0;  // by the step's end: gaps are in the order of `to`
    const Nanos time = before[gaps[i].to] - before[last.to] + (round ? before.back() : 0);
    spread.weights.push_back(by_time * static_cast<double>(time) / seconds * static_cast<double>(total) +
                             (1 - by_time) * static_cast<double>(gaps[i].bytes));
    // What streams has the ring, and where non-model data is small what that leaves.
    const std::uint32_t count = std::min(gaps[i].to - last.to + (round ? moments : 0) + 1, moments);
    const Bytes left = occupancy.room_in(last.to, count) - occupancy.least();
    spread.most.push_back(static_cast<double>(std::max(gaps[i].bytes, ring + left) + gaps[i].bytes));
  }
  return spread;
}

// By access order: `gaps` are in the order of the uses that end them.
void retain_states(const std::vector<Gap>& gaps, const Trace& trace, const PlanOptions& options, Bytes ring, Occupancy* occupancy,
                   std::vector<std::uint8_t>* keep) {
  if (retain_all(gaps, occupancy, keep)) return;
  Bytes total = 0;
  for (const Gap& gap : gaps) total += gap.bytes;
  const Bytes room = std::max<Bytes>(0, occupancy->least());
  const Spread spread = spread_of(gaps, trace, options.spread_by_time, ring, *occupancy);
  double low = 0, high = 1;  // least share that streams such that the rest fits
  if (total > room) {
    while (high < 64 && bytes_staying(gaps, staying(gaps, spread, high)) > room) high *= 2;
    for (int i = 0; i < 30; ++i) {
      const double middle = (low + high) / 2;
      (bytes_staying(gaps, staying(gaps, spread, middle)) > room ? low : high) = middle;
    }
  } else {
    high = 0;
  }
  const std::vector<bool> stays = staying(gaps, spread, high);
  for (std::size_t i = 0; i < gaps.size(); ++i) {
    if (stays[i]) retain(gaps[i], occupancy, keep);
  }
}

}  // namespace

Plan make_plan(Trace trace, const PlanOptions& options) {
  Plan plan;
  plan.trace = std::move(trace);
  const Trace& t = plan.trace;
  plan.keep.assign(t.accesses.size(), 0);
  std::vector<Bytes> left;
  for (std::size_t m = 0; m < t.moments.size(); ++m) {
    plan.room.push_back(std::max<Bytes>(0, options.budget - options.reserve - t.moments[m].non_model));
    left.push_back(plan.room.back());
    for (const Access& access : t.at(m)) left.back() -= t.bytes_of(access.payload);
  }
  if (t.moments.empty()) return plan;
  const Bytes tightest = std::max<Bytes>(0, *std::min_element(left.begin(), left.end()));
  const Bytes streamed = std::max<Bytes>(0, t.model_data_bytes() - *std::min_element(plan.room.begin(), plan.room.end()));
  plan.ring = std::min({options.ring, tightest / 4, std::max<Bytes>(kFewestInRing * largest_tile(t), streamed / kRingShare)});
  for (Bytes& room : left) room -= plan.ring;
  Occupancy occupancy(left);

  std::vector<Gap> gaps = gaps_of(t);
  const auto is_long_state = [&](const Gap& gap) { return gap.kind == PayloadKind::kState && gap.length > t.moments.size() / 2; };
  std::vector<Gap> states;
  std::vector<Gap> others;
  for (const Gap& gap : gaps) (is_long_state(gap) ? states : others).push_back(gap);
  // (A gap that ends with a kCreate is worth keeping too: what leaves is written although it is dead, as nobody can be sure.)
  // A byte-moment of room should save as much as it can: short gaps first, and those that save a write as well.
  std::stable_sort(others.begin(), others.end(), [](const Gap& a, const Gap& b) {
    return static_cast<std::uint64_t>(1 + (a.dirty ? 1 : 0)) * b.length >
           static_cast<std::uint64_t>(1 + (b.dirty ? 1 : 0)) * a.length;
  });
  for (const Gap& gap : others) retain(gap, &occupancy, &plan.keep);
  std::stable_sort(states.begin(), states.end(), [](const Gap& a, const Gap& b) { return a.to < b.to; });
  retain_states(states, t, options, plan.ring, &occupancy, &plan.keep);

  plan.left.resize(t.moments.size());
  for (std::size_t m = 0; m < t.moments.size(); ++m) plan.left[m] = occupancy.room_in(m, 1) + plan.ring;

  std::vector<bool> leaves(t.payloads.size(), false);
  std::vector<bool> dirty(t.payloads.size(), false);  // since it was last written back; right from the second round on
  for (int round = 0; round < 2; ++round) {
    for (std::size_t a = 0; a < t.accesses.size(); ++a) {
      const std::size_t payload = t.accesses[a].payload.index();
      if (t.accesses[a].mode != AccessMode::kRead) dirty[payload] = true;
      if (plan.keep[a] != 0) continue;
      if (round == 1 && dirty[payload]) plan.write_bytes += t.bytes_of(t.accesses[a].payload);
      dirty[payload] = false;
      leaves[payload] = true;
    }
  }
  for (const Gap& gap : gaps) {
    if (plan.keep[gap.access] != 0 || !gap.saves_read) continue;
    plan.fetches.push_back({.moment = gap.to, .previous = gap.length, .payload = t.accesses[gap.access].payload});
    plan.read_bytes += gap.bytes;
  }
  std::stable_sort(plan.fetches.begin(), plan.fetches.end(),
                   [](const PlannedFetch& a, const PlannedFetch& b) { return a.moment < b.moment; });
  std::vector<bool> used(t.payloads.size(), false);
  for (const Access& access : t.accesses) used[access.payload.index()] = true;
  for (std::size_t i = 0; i < used.size(); ++i) plan.kept_bytes += used[i] && !leaves[i] ? t.payloads[i].bytes : 0;
  return plan;
}

}  // namespace patrickstar
