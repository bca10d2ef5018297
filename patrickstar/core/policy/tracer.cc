#include "patrickstar/core/policy/tracer.h"

#include <algorithm>

namespace patrickstar {

void normalise(std::span<const Access> accesses, std::vector<Access>* to) {
  for (const Access& access : accesses) {
    const auto same = std::find_if(to->begin(), to->end(), [&](const Access& a) { return a.payload == access.payload; });
    if (same == to->end()) {
      to->push_back(access);
    } else if (same->mode != access.mode) {
      same->mode = AccessMode::kWrite;
    }
  }
}

void Tracer::added(PayloadId payload, PayloadKind kind, Bytes bytes) {
  if (trace_.payloads.size() <= payload.index()) trace_.payloads.resize(payload.index() + 1);
  trace_.payloads[payload.index()] = {kind, bytes};
}

void Tracer::removed(PayloadId payload) { trace_.payloads[payload.index()].bytes = 0; }

void Tracer::granted(std::span<const Access> accesses, const MomentFacts& facts) {
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
