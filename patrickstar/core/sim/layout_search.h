// The search for a layout: the recorded step is replayed under each candidate, by the real manager and the real plan.
//
// Candidates: tensors in the order of registration or of first use, chunks from 64 Ki to 64 Mi elements in powers of two and, for
// each, the smallest size that gives no more chunks (which evens them out); then, for the best of them, other lengths of tiles.
// The default stays unless another is faster by a given share: figures of a replay differ a little from those of a machine.
// Deterministic: the same arguments give the same answer on any machine.
#pragma once

#include <string>
#include <vector>

#include "patrickstar/core/sim/relayout.h"
#include "patrickstar/core/sim/sim_link.h"

namespace patrickstar {

struct LayoutSearchOptions {
  Bytes host_budget = 0;  // chunks and non-model bytes together
  SimLinkOptions disk;
  int steps = 6;               // that are replayed; the last one counts. REQUIRES: at least 4, two of which are watched
  double least_gain = 0.01;    // of the default's time: less does not change the layout
  double most_padding = 0.01;  // of the model data, or the default's if that is more
};

struct LayoutCandidate {
  PlacementOrder order = PlacementOrder::kRegistration;
  LayoutOptions options;
  friend bool operator==(const LayoutCandidate&, const LayoutCandidate&) = default;
};

struct LayoutFigures {
  LayoutCandidate candidate;
  Status status;  // not ok: the step cannot be replayed under it, and only what follows until `padding` counts
  std::size_t chunks = 0;
  Bytes payloads = 0;  // all of them
  Bytes padding = 0;   // of it: what belongs to no tensor
  Nanos time = 0;      // of the last step
  Nanos limit = 0;     // no schedule is faster under this layout (sim/bounds.h)
  Bytes traffic = 0;   // read and written in the last step
  Bytes fetched = 0;   // values that were read in the last step but one, and ...
  Bytes unused = 0;    // ... of these, those of tensors that nothing used before the chunk was read again or the run ended

  double padding_share() const { return static_cast<double>(padding) / static_cast<double>(payloads); }
};

struct LayoutSearch {
  std::vector<LayoutFigures> figures;  // the first is the default; layouts that place everything alike are there once
  std::size_t chosen = 0;
  std::string reason;  // of the choice, in one line
};

// Errors: kInvalidArgument (as relay(), or a step without moments); kOutOfRoom: no candidate can be replayed.
Result<LayoutSearch> search_layouts(const StepByTensor& step, const LayoutSearchOptions& options);

// "registration order, chunks of 4 Mi elements, tiles of 1 Mi"
std::string candidate_text(const LayoutCandidate& candidate);

}  // namespace patrickstar
