// What a recorded step does to its tensors. relayout.cc puts it under another layout.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "patrickstar/core/sim/relayout.h"

namespace patrickstar {
namespace {

Status bad(std::string text) { return Status(StatusCode::kInvalidArgument, "[layout] " + std::move(text)); }

constexpr Elems kMostElems = Elems{1} << 40;  // of a model that is searched for: 16 TB of model data

// Whose a payload is.
struct Owner {
  TensorId tensor;  // invalid: nobody's
  Elems elems = 0;  // of a tile
};

// Each tensor has a chunk of its own: value, gradient if those have chunks, tiles, one after the other.
Result<std::vector<Owner>> owners_of(const Trace& trace) {
  const TracedModel& model = trace.model;
  if (model.tensors.empty()) return bad("the trace does not say its tensors: record it anew with train --trace --chunk-elems 1");
  if (model.tile_elems % Layout::kOffsetAlignment != 0)
    return bad(fmt::format("the trace's tiles of {} elements are no multiple of {}", model.tile_elems, Layout::kOffsetAlignment));
  std::vector<Owner> owners(trace.payloads.size());
  std::uint32_t group = 0;
  Elems left = kMostElems;
  for (std::size_t t = 0; t < model.tensors.size(); ++t) {
    const TracedTensor& tensor = model.tensors[t];
    if (std::exchange(group, tensor.group) > tensor.group) return bad("the trace's tensors are not in the order of their groups");
    // What a file says may be anything: no list of tiles is made that the trace cannot have.
    left -= tensor.spec.elems;
    if (left < 0) return bad(fmt::format("the trace's tensors have more than {} elements", kMostElems));
    if (ceil_div(tensor.spec.elems, model.tile_elems) > static_cast<Elems>(trace.payloads.size()))
      return bad(fmt::format("{} has more tiles than the trace has payloads", tensor.spec.name));
    Layout alone({.chunk_elems = 1, .tile_elems = model.tile_elems});
    alone.add(tensor.spec);
    std::size_t payload = tensor.param.index();
    for (const ChunkPart& part : alone.parts(ChunkId(0u), model.scheme)) {
      const bool there = payload < trace.payloads.size() && trace.payloads[payload].kind == part.kind &&
                         trace.payloads[payload].bytes == part.bytes && !owners[payload].tensor.valid();
      if (!there) {
        return bad(fmt::format("{} has no chunk of its own in the trace: record it with train --trace --chunk-elems 1",
                               tensor.spec.name));
      }
      owners[payload++] = {TensorId(t), part.tile.elems};
    }
  }
  return owners;
}

// REQUIRES: some access is of state.
bool is_update(std::span<const Access> accesses, const Trace& trace, const std::vector<Owner>& owners) {
  if (accesses.size() < 2 || accesses.size() > 3) return false;
  const std::pair<PayloadKind, AccessMode> expected[] = {{PayloadKind::kParam, AccessMode::kWrite},
                                                         {PayloadKind::kState, AccessMode::kWrite},
                                                         {PayloadKind::kGrad, AccessMode::kRead}};
  for (std::size_t i = 0; i < accesses.size(); ++i) {
    const std::size_t payload = accesses[i].payload.index();
    if (std::pair{trace.payloads[payload].kind, accesses[i].mode} != expected[i]) return false;
    if (owners[payload].tensor != owners[accesses[0].payload.index()].tensor) return false;
  }
  return true;
}

// The median, each update with the weight of its elements: most are followed by another at once, and what follows the others
// does not count.
double nanos_an_element(const std::vector<StepEvent>& events) {
  std::vector<std::pair<double, Elems>> rates;
  Elems all = 0;
  for (const StepEvent& event : events) {
    if (event.kind != StepEventKind::kUpdate) continue;
    rates.emplace_back(static_cast<double>(event.compute) / static_cast<double>(event.updated), event.updated);
    all += event.updated;
  }
  std::sort(rates.begin(), rates.end());
  Elems seen = 0;
  for (const auto& [rate, elems] : rates) {
    seen += elems;
    if (2 * seen >= all) return rate;
  }
  return 0;
}

}  // namespace

Result<StepByTensor> step_by_tensor(const Trace& trace) {
  const auto owned = owners_of(trace);
  if (!owned.ok()) return owned.status();
  const std::vector<Owner>& owners = owned.value();
  StepByTensor step{.model = trace.model};
  for (std::size_t m = 0; m < trace.moments.size(); ++m) {
    const auto accesses = trace.at(m);
    StepEvent event{.non_model = trace.moments[m].non_model, .compute = trace.moments[m].compute};
    bool state = false;
    bool creates = false;
    for (const Access& access : accesses) {
      const Owner& owner = owners[access.payload.index()];
      if (!owner.tensor.valid()) return bad(fmt::format("moment {}: payload {} is no tensor's", m, access.payload.value));
      const PayloadKind kind = trace.payloads[access.payload.index()].kind;
      event.uses.push_back({owner.tensor, kind, access.mode});
      if (kind == PayloadKind::kState) state = true;
      if (access.mode == AccessMode::kCreate) creates = true;
    }
    if (state) {
      if (!is_update(accesses, trace, owners)) {
        return bad(fmt::format("moment {} uses optimizer state outside an update: was {} read or written by hand in this step?",
                               m, trace.model.tensors[event.uses[0].tensor.index()].spec.name));
      }
      event.kind = StepEventKind::kUpdate;
      event.updated = owners[accesses[1].payload.index()].elems;
      event.uses.resize(1);
    } else if (creates) {
      if (accesses.size() != 1 || (event.uses[0].kind == PayloadKind::kGrad) != trace.model.scheme.gradient_chunks())
        return bad(fmt::format("moment {} creates what is no gradient", m));
      event.kind = StepEventKind::kArrival;
    }
    step.events.push_back(std::move(event));
  }
  step.update_nanos = nanos_an_element(step.events);
  return step;
}

const char* placement_order_name(PlacementOrder order) {
  return order == PlacementOrder::kRegistration ? "registration" : "first use";
}

std::vector<TensorId> placement(const StepByTensor& step, PlacementOrder order) {
  const std::size_t tensors = step.model.tensors.size();
  std::vector<std::size_t> first(tensors, step.events.size());  // event that uses it first; updates before it do not count
  for (std::size_t e = step.events.size(); e-- > 0;) {
    if (step.events[e].kind != StepEventKind::kOperator) continue;
    for (const TensorUse& use : step.events[e].uses) first[use.tensor.index()] = e;
  }
  std::vector<TensorId> ids;
  for (std::size_t t = 0; t < tensors; ++t) ids.emplace_back(t);
  if (order == PlacementOrder::kRegistration) return ids;
  std::stable_sort(ids.begin(), ids.end(), [&](TensorId a, TensorId b) {
    return std::pair{step.model.tensors[a.index()].group, first[a.index()]} <
           std::pair{step.model.tensors[b.index()].group, first[b.index()]};
  });
  return ids;
}

Layout make_layout(const TracedModel& model, const std::vector<TensorId>& order, const LayoutOptions& options) {
  Layout layout(options);
  for (std::size_t begin = 0; begin < order.size();) {
    const std::uint32_t group = model.tensors[order[begin].index()].group;
    std::size_t end = begin;
    while (end < order.size() && model.tensors[order[end].index()].group == group) ++end;
    std::vector<TensorSpec> specs;  // ids of a group follow each other
    for (std::size_t t = begin; t < end; ++t) specs.push_back(model.tensors[t].spec);
    std::vector<std::size_t> places;
    for (std::size_t t = begin; t < end; ++t) places.push_back(order[t].index() - begin);
    layout.add(std::move(specs), places);
    layout.close();
    begin = end;
  }
  return layout;
}

}  // namespace patrickstar
