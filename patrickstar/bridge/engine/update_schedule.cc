#include "patrickstar/bridge/engine/update_schedule.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/graph_task.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

#include "patrickstar/bridge/engine/engine_core.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/core/base/log.h"

namespace patrickstar::bridge {
namespace {

// Puts every update that has a gradient into the queue.
//
// [Note: a step that fails] First comes what may fail before anything is put: then nothing has happened, and step() can be called
// again. Once all are put they are due whatever fails: step() again, or whoever needs a parameter, goes on with the tiles that
// are left (UpdateQueue knows them). Either way no update is lost and none is done twice.
class Deferred : public UpdateSchedule {
 public:
  Deferred(EngineCore* core, TakeFactors take_factors) : core_(core), take_factors_(std::move(take_factors)) {}

  void gradient_arrived(Parameter&) override { all_put_ = false; }

  void step() final {
    if (!all_put_) {
      for (const auto& parameter : core_->parameters()) {
        if (!takes_part(*parameter)) continue;
        throw_if_error(
            core_->updates().complete(parameter->id()));  // from the step before: the same gradient once more, as torch
        throw_if_error(parameter->take_over_writes());
      }
      for (const auto& parameter : core_->parameters()) {
        if (takes_part(*parameter)) (void)put(*parameter);
      }
      all_put_ = true;
    }
    run();
    all_put_ = false;
    for (const auto& parameter : core_->parameters()) parameter->step_ended();
  }

 protected:
  // After all updates were put. Throws Error; called again then.
  virtual void run() {
    // A gradient that autograd's own memory holds would go with zero_grad(); there everything is at hand anyway.
    for (const auto& parameter : core_->parameters()) {
      if (core_->updates().reads_kept(parameter->id())) throw_if_error(core_->updates().complete(parameter->id()));
    }
  }
  // False: it is in no group of this optimizer. REQUIRES: writes by the user were taken over.
  bool put(Parameter& parameter) {
    const auto factors = take_factors_(parameter);
    if (!factors.has_value()) return false;
    core_->updates().put(parameter.id(), *factors);
    parameter.update_put();
    return true;
  }
  EngineCore& core() const { return *core_; }

 private:
  static bool takes_part(const Parameter& parameter) { return parameter.has_gradient() && !parameter.updated_in_backward; }

  EngineCore* const core_;
  const TakeFactors take_factors_;
  std::atomic<bool> all_put_ = false;  // by a step() that failed since; gradients arrive on several threads
};

class AtStep final : public Deferred {
 public:
  using Deferred::Deferred;

 private:
  void run() override {
    Deferred::run();
    throw_if_error(core().updates().complete_all());
  }
};

class Overlapped final : public Deferred {
 public:
  using Deferred::Deferred;

  void gradient_arrived(Parameter& parameter) override {
    if (parameter.updated_in_backward) {
      throw Error(Status(
          StatusCode::kInvalidArgument,
          "[optimizer] " + parameter.name() +
              " got a second gradient before step(): updates overlapped with backward "
              "take one backward() a step and no re-entrant checkpointing across a shared parameter; use deferred updates"));
    }
    Deferred::gradient_arrived(parameter);
    throw_if_error(parameter.take_over_writes());
    if (!put(parameter)) return;
    parameter.updated_in_backward = true;
    // The engine runs the callback only at the end of a backward in which nothing was thrown. It is that of the innermost
    // backward: one that is broken off around or beside another that ended is not noticed before its own next gradient.
    const bool in_backward = torch::autograd::get_current_graph_task_id() != -1;  // not where step() takes one that was assigned
    if (in_backward && !under_way_->exchange(true)) {
      torch::autograd::Engine::get_default_engine().queue_callback([under_way = under_way_] { under_way->store(false); });
    }
    // From here on it is due, so what fails is only put off: to step(), or to whoever needs it next, who is told if it fails
    // again. A backward that ended here would leave some parameters a step ahead of the others. All that follow are put off too:
    // a disk that does not answer would be waited for tile after tile.
    if (put_off_) return;
    const Status status = run_on_arrival(parameter);
    if (status.ok() || put_off_.exchange(true)) return;
    log_warning("an update in backward failed, so this one and all after it run later, at the next use of their parameters: " +
                status.message());
  }

  std::vector<bool> runs_on_arrival(const Parameter& parameter) const override {
    if (parameter.updated_in_backward || put_off_) return {};
    const ChunkId chunk = core().data().layout().place(parameter.id()).chunk;
    const Layout::TileSpan tiles = core().data().layout().tiles_of(parameter.id());
    std::vector<bool> runs(tiles.count);
    for (std::size_t i = 0; i < tiles.count; ++i) runs[i] = runs_with(parameter, chunk, tiles.first + i);
    return runs;
  }

  bool updates_in_backward() const override { return true; }

  bool can_clip() const override { return false; }

  std::string after_a_failure() const override {
    std::size_t ahead = 0;
    std::size_t trained = 0;
    for (const auto& parameter : core().parameters()) {
      if (parameter->training() == Training::kFrozen) continue;
      ++trained;
      if (parameter->updated_in_backward) ++ahead;
    }
    if (ahead == 0 || ahead == trained) return "";  // none, or a backward that was complete
    return " (" + std::to_string(ahead) + " of " + std::to_string(trained) +
           " parameters have got their update in that backward and are a step ahead of the others: resume from a checkpoint, or "
           "call step() again to go on with it as it is)";
  }

  bool take_broken_off() override { return under_way_->exchange(false); }

 private:
  void run() override {
    Deferred::run();
    put_off_ = false;
  }
  Status run_on_arrival(const Parameter& parameter) {
    if (parameter.gradient_kept()) return core().updates().complete(parameter.id());
    const ChunkId chunk = core().data().layout().place(parameter.id()).chunk;
    const Layout::TileSpan tiles = core().data().layout().tiles_of(parameter.id());
    for (std::size_t i = tiles.first; i < tiles.first + tiles.count; ++i) {
      if (runs_with(parameter, chunk, i)) PS_RETURN_IF_ERROR(core().updates().run_tile(chunk, i));
    }
    return {};
  }
  // Whether a tile runs once `parameter` is due too. Once for all its tensors: a tile that is run for each of them in turn would
  // be moved as often.
  bool runs_with(const Parameter& parameter, ChunkId chunk, std::size_t index) const {
    const TilePayload& tile = core().data().chunk(chunk).tiles[index];
    if (tile.waits_for_forward) return false;
    const std::vector<Segment> segments = core().data().layout().segments(tile.range);
    return std::all_of(segments.begin(), segments.end(), [&](const Segment& segment) {
      return segment.tensor == parameter.id() || core().updates().due(segment.tensor);
    });
  }

  std::atomic<bool> put_off_ = false;  // since an update failed, until step()
  const std::shared_ptr<std::atomic<bool>> under_way_ =
      std::make_shared<std::atomic<bool>>(false);  // the callback may outlive us
};

}  // namespace

std::unique_ptr<UpdateSchedule> make_update_schedule(UpdateTiming timing, EngineCore* core,
                                                     UpdateSchedule::TakeFactors take_factors) {
  switch (timing) {
    case UpdateTiming::kAtStep: return std::make_unique<AtStep>(core, std::move(take_factors));
    case UpdateTiming::kDeferred: return std::make_unique<Deferred>(core, std::move(take_factors));
    case UpdateTiming::kOverlapped: break;
  }
  return std::make_unique<Overlapped>(core, std::move(take_factors));
}

}  // namespace patrickstar::bridge
