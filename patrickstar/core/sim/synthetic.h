// Traces of a GPT-2-like training step, made from its shape: for tests of policies at sizes that no test machine trains.
//
// 16-bit parameters (2 B an element) whose gradients take their place, tiles of 12 B an element, one token embedding that is
// used first and last (its gradient is whole only when backward ends). Tensors lie in chunks in the order of first use, by
// mem/layout.h. Moments are one operator each: a layer has 6 in forward, as many again where it is recomputed, and 12 in
// backward (an operator reads its parameters, then its gradients arrive); and one for each tile's update. Non-model bytes grow
// as forward keeps what backward needs, and shrink as backward uses it. Pure functions.
#pragma once

#include "patrickstar/core/base/units.h"
#include "patrickstar/core/mem/layout.h"
#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

// kBlocks: activation checkpointing, layer by layer.
enum class Recompute : std::uint8_t { kNone, kBlocks };

// When a tile is updated.
enum class UpdateAt : std::uint8_t {
  kPhase,        // all in a phase of their own, after backward
  kNextForward,  // before its parameters are used next
  kBackward,     // when all gradients of its chunk are there
  kSplit,        // every fourth tile at next forward, the others in backward
};

struct GptShape {  // GPT-2-medium, unless said otherwise
  int layers = 24;
  Elems hidden = 1024;
  Elems vocab = 50257;
  Elems positions = 1024;  // the length of a sequence, too
  Elems tokens = 1024;     // of a step
  Recompute recompute = Recompute::kBlocks;
  UpdateAt update = UpdateAt::kPhase;
  LayoutOptions layout;
};

// Compute times are those of a machine that does 10^12 operations a second, of which updates are a tenth: scale_compute().
Trace gpt_trace(const GptShape& shape);

// Makes the step's compute `total`, each moment's in proportion. REQUIRES: trace->compute() > 0.
void scale_compute(Trace* trace, Nanos total);

// The budget that leaves room for `share` of the model data when non-model bytes are at their peak.
Bytes budget_with_room(const Trace& trace, double share);

}  // namespace patrickstar
