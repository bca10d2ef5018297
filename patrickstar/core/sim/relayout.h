// The trace of a step under another layout, from a trace of the same step in which every tensor has payloads of its own.
//
// [Note: a step by tensor] A run with chunks of one element gives each tensor a chunk, so its trace says which tensor is used at
// which moment. The operators and the arrivals of gradients are the same under any layout; only what they access is merged: an
// access to a tensor becomes one to its chunk. Updates are not merged but run anew, by the rules of bridge/engine/update_queue.cc
// and update_schedule.cc: a tile updates all that is due in it, before one of its parameters is used, when its last gradient
// arrives (but those that SplitUpdates leaves to forward), or all at the step's end. tests/e2e/relayout_test.cc holds this
// against recorded runs.
//
// Times: an update takes the step's nanoseconds an element; what a recorded update took beyond that is work that followed it,
// and stays where it was. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/mem/layout.h"
#include "patrickstar/core/trace/trace.h"

namespace patrickstar {

// What a moment is, apart from where tensors lie.
enum class StepEventKind : std::uint8_t {
  kOperator,  // uses values, and gradients in chunks of their own
  kArrival,   // a gradient comes into chunk space
  kUpdate,    // of a tile
};

struct TensorUse {
  TensorId tensor;
  PayloadKind kind = PayloadKind::kParam;  // or kGrad
  AccessMode mode = AccessMode::kRead;
};

struct StepEvent {
  StepEventKind kind = StepEventKind::kOperator;
  std::vector<TensorUse> uses;  // kArrival, kUpdate: the one tensor
  Elems updated = 0;            // of kUpdate
  Bytes non_model = 0;
  Nanos compute = 0;
};

struct StepByTensor {
  TracedModel model;
  std::vector<StepEvent> events;
  double update_nanos = 0;  // an element
};

// Errors: kInvalidArgument in one line: the trace does not say its tensors, or they share payloads, or it has accesses that the
// derivation knows nothing of (state outside an update: parameters that are written by hand).
Result<StepByTensor> step_by_tensor(const Trace& trace);

// Of the tensors that are attached together.
enum class PlacementOrder : std::uint8_t { kRegistration, kFirstUse };
const char* placement_order_name(PlacementOrder order);  // "registration", "first use"

// Tensors in the order in which they are placed: group by group.
std::vector<TensorId> placement(const StepByTensor& step, PlacementOrder order);
// REQUIRES: `order` is a placement of the step's tensors.
Layout make_layout(const TracedModel& model, const std::vector<TensorId>& order, const LayoutOptions& options);

struct RelaidStep {
  Trace trace;  // with payloads numbered as a new Runtime numbers them
  // By moment: the tensors that are used.
  std::vector<std::vector<TensorId>> used;
};

// REQUIRES: the layout is of the step's tensors. Errors: kInvalidArgument: the step's updates are not those of the schedule that
// it names.
Result<RelaidStep> relay(const StepByTensor& step, const Layout& layout);

}  // namespace patrickstar
