#include "patrickstar/core/sim/relayout.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "patrickstar/core/base/check.h"
#include "patrickstar/core/policy/tracer.h"

namespace patrickstar {
namespace {

// Runs the step's events over a layout, with an update queue of its own.
class Relayer {
 public:
  Relayer(const StepByTensor& step, const Layout& layout)
      : step_(step),
        layout_(layout),
        updates_(layout.tensors()),
        has_gradient_(layout.tensors(), false),
        gradients_hold_(layout.chunks(), false) {
    for (const StepEvent& event : step.events) {
      if (event.kind == StepEventKind::kUpdate) updates_[event.uses[0].tensor.index()].ever = true;
    }
    number_payloads();
  }

  // Twice: the first pass leaves due what the second finds, as one step leaves it to the next.
  Result<RelaidStep> run() {
    for (int pass = 0; pass < 2; ++pass) {
      relaid_.trace.moments.clear();
      relaid_.trace.accesses.clear();
      relaid_.used.clear();
      carried_ = {};
      updated_ = 0;
      run_step();
    }
    Elems recorded = 0;
    for (const StepEvent& event : step_.events) recorded += event.updated;
    if (updated_ != recorded) {
      return Status(StatusCode::kInvalidArgument,
                    "[layout] the trace's updates are not those of the schedule that it names: " + std::to_string(recorded) +
                        " elements are updated, by the schedule " + std::to_string(updated_));
    }
    return std::move(relaid_);
  }

 private:
  struct Chunk {
    PayloadId param;
    PayloadId grad;
    std::vector<TileRange> tiles;
    std::vector<PayloadId> states;  // by tile
    std::vector<bool> waits;        // likewise
  };
  struct Update {
    bool ever = false;  // the step updates it
    bool due = false;
    std::vector<bool> done;  // by tile, from the first that holds a part of the tensor
    std::size_t left = 0;
  };

  void number_payloads() {
    Trace& trace = relaid_.trace;
    SplitUpdates split(step_.model.scheme);
    for (std::size_t c = 0; c < layout_.chunks(); ++c) {
      Chunk chunk;
      for (const ChunkPart& part : layout_.parts(ChunkId(c), step_.model.scheme)) {
        const PayloadId id(trace.payloads.size());
        trace.payloads.push_back({part.kind, part.bytes});
        switch (part.kind) {
          case PayloadKind::kParam: chunk.param = id; break;
          case PayloadKind::kGrad: chunk.grad = id; break;
          case PayloadKind::kState:
            chunk.tiles.push_back(part.tile);
            chunk.states.push_back(id);
            break;
        }
      }
      chunk.waits = split.next_chunk(chunk.tiles.size());
      chunks_.push_back(std::move(chunk));
    }
    trace.model = step_.model;
    trace.model.tile_elems = layout_.options().tile_elems;
    for (std::size_t t = 0; t < layout_.tensors(); ++t) trace.model.tensors[t].param = chunk_of(TensorId(t)).param;
  }
  const Chunk& chunk_of(TensorId tensor) const { return chunks_[layout_.place(tensor).chunk.index()]; }

  // --- the step -------------------------------------------------------------------------------------------------------------

  void run_step() {
    bool at_step_done = false;
    before_ = step_.events.empty() ? 0 : step_.events.back().non_model;
    for (const StepEvent& event : step_.events) {
      switch (event.kind) {
        case StepEventKind::kOperator: run_operator(event); break;
        case StepEventKind::kArrival: arrive(event); break;
        case StepEventKind::kUpdate: {
          if (step_.model.updates == UpdateTiming::kAtStep && !std::exchange(at_step_done, true)) {
            put_all();
            for (std::size_t c = 0; c < chunks_.size(); ++c) complete_chunk(ChunkId(c));
          }
          const auto update = static_cast<Nanos>(step_.update_nanos * static_cast<double>(event.updated));
          stay(event.non_model, std::max<Nanos>(0, event.compute - update));
          break;
        }
      }
      before_ = event.non_model;
    }
    if (step_.model.updates == UpdateTiming::kDeferred) put_all();
    for (std::size_t t = 0; t < has_gradient_.size(); ++t) {  // zero_grad()
      if (has_gradient_[t]) {
        has_gradient_[t] = false;
        discard_dead_gradients(TensorId(t));
      }
    }
  }

  void run_operator(const StepEvent& event) {
    std::vector<Access> accesses;
    std::vector<TensorId> tensors;
    for (const TensorUse& use : event.uses) {
      complete(use.tensor);
      const Chunk& chunk = chunk_of(use.tensor);
      accesses.push_back({use.kind == PayloadKind::kGrad ? chunk.grad : chunk.param, use.mode});
      tensors.push_back(use.tensor);
    }
    moment(accesses, std::move(tensors), event.non_model, event.compute);
  }

  void arrive(const StepEvent& event) {
    const TensorId tensor = event.uses[0].tensor;
    complete(tensor);
    const ChunkId id = layout_.place(tensor).chunk;
    const bool alone = layout_.chunk(id).tensors.size() == 1;
    const bool own = step_.model.scheme.gradient_chunks();
    const bool create = alone || (own && !gradients_hold_[id.index()]);
    const PayloadId payload = own ? chunk_of(tensor).grad : chunk_of(tensor).param;
    moment({{payload, create ? AccessMode::kCreate : AccessMode::kWrite}}, {tensor}, event.non_model, event.compute);
    gradients_hold_[id.index()] = true;
    has_gradient_[tensor.index()] = true;
    if (step_.model.updates == UpdateTiming::kOverlapped) update_in_backward(tensor);
  }

  void update_in_backward(TensorId tensor) {
    if (!updates_[tensor.index()].ever) return;
    put(tensor);
    const ChunkId id = layout_.place(tensor).chunk;
    const Layout::TileSpan mine = layout_.tiles_of(tensor);
    for (std::size_t tile = mine.first; tile < mine.first + mine.count; ++tile) {
      if (chunks_[id.index()].waits[tile]) continue;
      const std::vector<Segment> segments = layout_.segments(chunks_[id.index()].tiles[tile]);
      if (std::all_of(segments.begin(), segments.end(), [&](const Segment& s) { return updates_[s.tensor.index()].due; }))
        run_tile(id, tile);
    }
  }

  // --- updates --------------------------------------------------------------------------------------------------------------

  void put(TensorId tensor) {
    Update& update = updates_[tensor.index()];
    update.due = true;
    update.left = layout_.tiles_of(tensor).count;
    update.done.assign(update.left, false);
  }
  void put_all() {
    for (std::size_t t = 0; t < updates_.size(); ++t) {
      if (!has_gradient_[t] || !updates_[t].ever) continue;
      complete(TensorId(t));
      put(TensorId(t));
    }
  }
  void complete(TensorId tensor) {
    if (!updates_[tensor.index()].due) return;
    const Layout::TileSpan mine = layout_.tiles_of(tensor);
    for (std::size_t i = 0; i < mine.count; ++i) run_tile(layout_.place(tensor).chunk, mine.first + i);
  }
  void complete_chunk(ChunkId id) {
    for (std::size_t i = 0; i < chunks_[id.index()].tiles.size(); ++i) run_tile(id, i);
  }

  void run_tile(ChunkId id, std::size_t tile) {
    const Chunk& chunk = chunks_[id.index()];
    std::vector<TensorId> tensors;
    Elems elems = 0;
    for (const Segment& segment : layout_.segments(chunk.tiles[tile])) {
      const Update& update = updates_[segment.tensor.index()];
      if (!update.due || update.done[tile - layout_.tiles_of(segment.tensor).first]) continue;
      tensors.push_back(segment.tensor);
      elems += segment.elems;
    }
    if (tensors.empty()) return;
    std::vector<Access> accesses{{chunk.param, AccessMode::kWrite}, {chunk.states[tile], AccessMode::kWrite}};
    if (step_.model.scheme.gradient_chunks()) accesses.push_back({chunk.grad, AccessMode::kRead});
    const auto nanos = static_cast<Nanos>(std::llround(step_.update_nanos * static_cast<double>(elems)));
    moment(accesses, tensors, before_, nanos);
    updated_ += elems;
    for (const TensorId tensor : tensors) {
      Update& update = updates_[tensor.index()];
      update.done[tile - layout_.tiles_of(tensor).first] = true;
      if (--update.left > 0) continue;
      update.due = false;
      if (!has_gradient_[tensor.index()]) discard_dead_gradients(tensor);
    }
  }

  void discard_dead_gradients(TensorId tensor) {
    const ChunkId id = layout_.place(tensor).chunk;
    for (const TensorId other : layout_.chunk(id).tensors) {
      if (has_gradient_[other.index()] || updates_[other.index()].due) return;
    }
    gradients_hold_[id.index()] = false;
  }

  // --- moments --------------------------------------------------------------------------------------------------------------

  void moment(const std::vector<Access>& accesses, std::vector<TensorId> tensors, Bytes non_model, Nanos compute) {
    std::vector<Access> once;
    normalise(accesses, &once);
    Trace& trace = relaid_.trace;
    trace.moments.push_back({.first = static_cast<std::uint32_t>(trace.accesses.size()),
                             .count = static_cast<std::uint32_t>(once.size()),
                             .non_model = non_model,
                             .compute = compute});
    trace.accesses.insert(trace.accesses.end(), once.begin(), once.end());
    relaid_.used.push_back(std::move(tensors));
    if (trace.moments.size() == 1) stay(carried_.non_model, carried_.compute);
  }
  // Bytes and work that remain at this place of the step, whatever stands here now.
  void stay(Bytes non_model, Nanos compute) {
    Moment& at = relaid_.trace.moments.empty() ? carried_ : relaid_.trace.moments.back();
    at.non_model = std::max(at.non_model, non_model);
    at.compute += compute;
  }

  const StepByTensor& step_;
  const Layout& layout_;
  std::vector<Chunk> chunks_;
  std::vector<Update> updates_;       // by tensor
  std::vector<bool> has_gradient_;    // by tensor
  std::vector<bool> gradients_hold_;  // by chunk: its gradient payload has contents
  Moment carried_;                    // what comes before the first moment
  Bytes before_ = 0;                  // non-model bytes of the event before
  Elems updated_ = 0;
  RelaidStep relaid_;
};

}  // namespace

Result<RelaidStep> relay(const StepByTensor& step, const Layout& layout) {
  PS_CHECK(layout.tensors() == step.model.tensors.size());
  return Relayer(step, layout).run();
}

}  // namespace patrickstar
