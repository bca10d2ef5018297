#include "patrickstar/core/policy/tracer.h"

#include <algorithm>
#include <unordered_map>

namespace patrickstar {

void normalise(std::span<const Access> accesses, std::vector<Access>* to) {
  std::unordered_map<PayloadId, std::size_t> places;  // only of many: an optimizer's over all parameters at once
  const bool many = accesses.size() > 16;
  const auto place_of = [&](PayloadId payload) {
    if (many) return places.try_emplace(payload, to->size()).first->second;
    const auto same = std::find_if(to->begin(), to->end(), [&](const Access& a) { return a.payload == payload; });
    return static_cast<std::size_t>(same - to->begin());
  };
  for (const Access& access : accesses) {
    const std::size_t place = place_of(access.payload);
    if (place == to->size()) {
      to->push_back(access);
    } else if ((*to)[place].mode != access.mode) {
      (*to)[place].mode = AccessMode::kWrite;
    }
  }
}

void Tracer::added(PayloadId payload, PayloadKind kind, Bytes bytes) {
  if (trace_.payloads.size() <= payload.index()) trace_.payloads.resize(payload.index() + 1);
  trace_.payloads[payload.index()] = {kind, bytes};
}

void Tracer::removed(PayloadId payload) { trace_.payloads[payload.index()].bytes = 0; }

void Tracer::granted(std::span<const Access> accesses, const MomentFacts& facts) {
  if (too_long_) return;
  if (trace_.moments.size() == kMostMoments) {
    trace_.accesses = {};
    trace_.moments = {};
    too_long_ = true;
    return;
  }
  if (!trace_.moments.empty()) {  // the facts are of the time before this moment
    trace_.moments.back().non_model = facts.non_model;
    trace_.moments.back().compute = facts.compute;
  }
  const auto first = static_cast<std::uint32_t>(trace_.accesses.size());
  std::vector<Access> once;
  normalise(accesses, &once);
  trace_.accesses.insert(trace_.accesses.end(), once.begin(), once.end());
  trace_.moments.push_back({.first = first, .count = static_cast<std::uint32_t>(once.size())});
}

void Tracer::restart() {
  trace_.accesses.clear();
  trace_.moments.clear();
  too_long_ = false;
}

Trace Tracer::finish(const MomentFacts& facts) {
  if (!trace_.moments.empty()) {
    trace_.moments.back().non_model = facts.non_model;
    trace_.moments.back().compute = facts.compute;
  }
  Trace whole = trace_;
  restart();
  return whole;
}

}  // namespace patrickstar
