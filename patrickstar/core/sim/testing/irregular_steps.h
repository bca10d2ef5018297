// Steps that differ from one another, of models whose payloads stay the same.
#pragma once

#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "patrickstar/core/sim/synthetic.h"
#include "patrickstar/core/testing/traces.h"

namespace patrickstar {

// A step without some layers: neither forward, nor backward, nor the updates that follow on it. Of gpt_trace with
// UpdateAt::kBackward and without recomputation.
inline Trace without(const Trace& trace, const std::vector<bool>& dropped) {
  const std::size_t operators = 3 + 6 * dropped.size();
  const auto is_dropped = [&](std::size_t op) { return op > 0 && op + 2 < operators && dropped[(op - 1) / 6]; };
  Trace rest;
  rest.payloads = trace.payloads;
  std::size_t op = operators;  // in backward: the one it is at
  for (std::size_t m = 0; m < trace.moments.size(); ++m) {
    const auto accesses = trace.at(m);
    if (m >= operators && accesses.front().mode == AccessMode::kRead) --op;
    if (is_dropped(m < operators ? m : op)) continue;
    rest.moments.push_back(trace.moments[m]);
    rest.moments.back().first = static_cast<std::uint32_t>(rest.accesses.size());
    rest.accesses.insert(rest.accesses.end(), accesses.begin(), accesses.end());
  }
  return rest;
}

// Each layer is left out with this probability.
inline Trace with_layers_dropped(const Trace& trace, std::size_t layers, double probability, std::mt19937& random) {
  std::vector<bool> dropped(layers);
  for (std::size_t layer = 0; layer < layers; ++layer) dropped[layer] = random() < probability * 4294967296.0;
  return without(trace, dropped);
}

// A mixture of experts: in each layer an attention of 8 MiB and as many experts of 8 MiB as `used` says, all with states of 48
// MiB in four tiles, updated in backward. used[layer]: experts, out of `experts`.
inline Trace experts_trace(const std::vector<std::vector<std::uint32_t>>& used, std::uint32_t experts) {
  constexpr std::uint32_t kTiles = 4;
  constexpr Bytes kBlock = 8 * kMiB;
  const auto layers = static_cast<std::uint32_t>(used.size());
  const std::uint32_t blocks = layers * (experts + 1);
  std::vector<MomentSpec> moments;
  const auto block = [&](std::uint32_t layer, std::uint32_t which) { return layer * (experts + 1) + which; };
  const auto backward = [&](std::uint32_t b) {
    moments.push_back({.accesses = {writes(b)}, .compute = 2000});
    for (std::uint32_t t = 0; t < kTiles; ++t)
      moments.push_back({.accesses = {writes(b), writes(blocks + b * kTiles + t)}, .compute = 200});
  };
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    moments.push_back({.accesses = {reads(block(layer, experts))}, .compute = 1000});
    for (const std::uint32_t expert : used[layer])
      moments.push_back({.accesses = {reads(block(layer, expert))}, .compute = 1000});
  }
  for (std::uint32_t layer = layers; layer-- > 0;) {
    for (const std::uint32_t expert : used[layer]) backward(block(layer, expert));
    backward(block(layer, experts));
  }
  std::vector<Bytes> bytes(blocks, kBlock);
  bytes.resize(blocks * (1 + kTiles), kBlock * 6 / kTiles);
  Trace trace = trace_of(bytes, moments);
  for (std::uint32_t b = 0; b < blocks; ++b) trace.payloads[b].kind = PayloadKind::kParam;
  return trace;
}

// Other experts each step: `each` of them in a layer.
inline std::vector<std::vector<std::uint32_t>> random_experts(std::size_t layers, std::uint32_t experts, std::size_t each,
                                                              std::mt19937& random) {
  std::vector<std::vector<std::uint32_t>> used(layers);
  for (std::vector<std::uint32_t>& layer : used) {
    std::vector<std::uint32_t> all(experts);
    std::iota(all.begin(), all.end(), 0u);
    for (std::size_t i = 0; i < each; ++i) {
      std::swap(all[i], all[i + random() % (experts - i)]);
      layer.push_back(all[i]);
    }
  }
  return used;
}

}  // namespace patrickstar
