// Steps in which each tensor has payloads of its own, written out by hand: as a run with chunks of one element records them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/mem/layout.h"
#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

class StepWriter {
 public:
  StepWriter(ModelScheme scheme, UpdateTiming updates, Elems tile_elems) : layout_({.chunk_elems = 1, .tile_elems = tile_elems}) {
    trace_.model = {.scheme = scheme, .updates = updates, .tile_elems = tile_elems, .tensors = {}};
  }

  std::size_t tensor(TensorSpec spec, std::uint32_t group = 0) {
    const ChunkId chunk = layout_.place(layout_.add(spec)).chunk;
    Payloads payloads;
    for (const ChunkPart& part : layout_.parts(chunk, trace_.model.scheme)) {
      const PayloadId id(trace_.payloads.size());
      trace_.payloads.push_back({part.kind, part.bytes});
      (part.kind == PayloadKind::kParam  ? payloads.param
       : part.kind == PayloadKind::kGrad ? payloads.grad
                                         : payloads.tiles.emplace_back()) = id;
    }
    trace_.model.tensors.push_back({.spec = std::move(spec), .group = group, .param = payloads.param});
    payloads_.push_back(std::move(payloads));
    return payloads_.size() - 1;
  }

  void reads(const std::vector<std::size_t>& tensors, Nanos compute = 0, Bytes non_model = 0) {
    std::vector<Access> accesses;
    for (const std::size_t t : tensors) accesses.push_back({payloads_[t].param, AccessMode::kRead});
    moment(accesses, compute, non_model);
  }
  void arrives(std::size_t t, Nanos compute = 0, Bytes non_model = 0) {
    const bool own = trace_.model.scheme.gradient_chunks();
    moment({{own ? payloads_[t].grad : payloads_[t].param, AccessMode::kCreate}}, compute, non_model);
  }
  void updates(std::size_t t, std::size_t tile, Nanos compute = 0, Bytes non_model = 0) {
    std::vector<Access> accesses{{payloads_[t].param, AccessMode::kWrite}, {payloads_[t].tiles[tile], AccessMode::kWrite}};
    if (trace_.model.scheme.gradient_chunks()) accesses.push_back({payloads_[t].grad, AccessMode::kRead});
    moment(accesses, compute, non_model);
  }
  void moment(const std::vector<Access>& accesses, Nanos compute = 0, Bytes non_model = 0) {
    trace_.moments.push_back({.first = static_cast<std::uint32_t>(trace_.accesses.size()),
                              .count = static_cast<std::uint32_t>(accesses.size()),
                              .non_model = non_model,
                              .compute = compute});
    trace_.accesses.insert(trace_.accesses.end(), accesses.begin(), accesses.end());
  }

  std::size_t tiles(std::size_t t) const { return payloads_[t].tiles.size(); }
  PayloadId value(std::size_t t) const { return payloads_[t].param; }
  PayloadId tile(std::size_t t, std::size_t i) const { return payloads_[t].tiles[i]; }
  Trace& trace() { return trace_; }

 private:
  struct Payloads {
    PayloadId param;
    PayloadId grad;
    std::vector<PayloadId> tiles;
  };
  Layout layout_;
  Trace trace_;
  std::vector<Payloads> payloads_;  // by tensor
};

// Layers of two tensors each, which are used one after the other but registered far apart. REQUIRES: `layers` is no multiple
// of 17.
inline Trace scattered_step(std::size_t layers, Elems elems, Nanos compute) {
  StepWriter step({}, UpdateTiming::kDeferred, elems);
  std::vector<std::size_t> first(layers);
  std::vector<std::size_t> second(layers);
  for (auto* half : {&first, &second}) {
    for (std::size_t i = 0; i < layers; ++i) {
      const std::size_t layer = i * 17 % layers;
      (*half)[layer] = step.tensor({(half == &first ? "first " : "second ") + std::to_string(layer), elems});
    }
  }
  for (std::size_t layer = 0; layer < layers; ++layer) {
    step.updates(first[layer], 0, compute / 10);
    step.updates(second[layer], 0, compute / 10);
    step.reads({first[layer], second[layer]}, compute);
  }
  for (std::size_t layer = layers; layer-- > 0;) {
    step.reads({first[layer], second[layer]}, compute);
    step.arrives(second[layer]);
    step.arrives(first[layer]);
  }
  return step.trace();
}

}  // namespace patrickstar
