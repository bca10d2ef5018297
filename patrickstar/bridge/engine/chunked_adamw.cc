#include "patrickstar/bridge/engine/chunked_adamw.h"

#include <string>
#include <utility>

#include "patrickstar/bridge/engine/adamw_groups.h"
#include "patrickstar/bridge/engine/error.h"
#include "patrickstar/core/optim/grad_norm.h"

namespace patrickstar::bridge {

AdamWOptions adamw_options(const torch::optim::OptimizerParamGroup& group) {
  const auto& options = static_cast<const torch::optim::AdamWOptions&>(group.options());
  if (options.amsgrad())
    throw Error(Status(StatusCode::kInvalidArgument, "[optimizer] amsgrad is not supported: build AdamW without it"));
  const auto [beta1, beta2] = options.betas();
  return {.lr = options.lr(), .beta1 = beta1, .beta2 = beta2, .eps = options.eps(), .weight_decay = options.weight_decay()};
}

ChunkedAdamW::ChunkedAdamW(Engine& engine, std::vector<torch::Tensor> parameters, torch::optim::AdamWOptions defaults,
                           UpdateTiming timing)
    : ChunkedAdamW(engine,
                   std::vector<torch::optim::OptimizerParamGroup>{torch::optim::OptimizerParamGroup(std::move(parameters))},
                   std::move(defaults), timing) {}

ChunkedAdamW::ChunkedAdamW(Engine& engine, std::vector<torch::optim::OptimizerParamGroup> groups,
                           torch::optim::AdamWOptions defaults, UpdateTiming timing)
    : Optimizer(std::move(groups), std::make_unique<torch::optim::AdamWOptions>(defaults)), core_(engine.core()) {
  throw_if_error(core_->failure());
  if (core_->update_schedule() != nullptr) {
    throw Error(
        Status(StatusCode::kInvalidArgument,
               "[optimizer] this Engine has an optimizer already, which its steps and updates belong to: give that one more "
               "parameter groups (each has its own options), or destroy it first"));
  }
  throw_if_error(core_->order().check());  // all of the model is attached by now
  for (const auto& group : param_groups()) {
    (void)adamw_options(group);
    for (const auto& tensor : group.params()) {
      const Parameter* const parameter = core_->find(tensor.unsafeGetTensorImpl());
      if (tensor.numel() == 0 || (parameter != nullptr && !parameter->released())) continue;
      throw Error(Status(StatusCode::kInvalidArgument, "[optimizer] a parameter of shape " + c10::str(tensor.sizes()) +
                                                           " is not attached to the engine: call Engine::attach first"));
    }
  }
  schedule_ = make_update_schedule(timing, core_.get(), [this](Parameter& parameter) { return take_factors(parameter); });
  core_->set_update_schedule(schedule_.get(), timing);
  end_step();  // steps begin here
}

ChunkedAdamW::~ChunkedAdamW() {
  if (core_->update_schedule() == schedule_.get()) core_->forget_update_schedule();
}

namespace {

[[noreturn]] void refuse_archive(const char* what) {
  throw Error(
      Status(StatusCode::kUnavailable,
             std::string("[optimizer] torch::") + what +
                 " does not reach the optimizer's state, which lies in chunks: stream it with Engine::visit(), which gives "
                 "masters and moments by name; there is no checkpoint to resume from yet"));
}

}  // namespace

void ChunkedAdamW::save(torch::serialize::OutputArchive&) const { refuse_archive("save"); }
void ChunkedAdamW::load(torch::serialize::InputArchive&) { refuse_archive("load"); }

std::optional<AdamWFactors> ChunkedAdamW::take_factors(Parameter& parameter) {
  auto found = group_of_.find(parameter.key());
  if (found == group_of_.end()) {  // the first time, or a group was added
    for (std::size_t g = 0; g < param_groups().size(); ++g) {
      for (const auto& tensor : param_groups()[g].params()) group_of_.insert_or_assign(tensor.unsafeGetTensorImpl(), g);
    }
    found = group_of_.find(parameter.key());
    if (found == group_of_.end()) return std::nullopt;
  }
  const AdamWOptions options = adamw_options(param_groups()[found->second]);
  return adamw_factors(options, ++parameter.step, std::exchange(parameter.grad_scale, 1.0));
}

double ChunkedAdamW::clip_grad_norm_(double max_norm) {
  if (!schedule_->can_clip()) {
    throw Error(
        Status(StatusCode::kInvalidArgument,
               "[optimizer] gradients cannot be clipped when updates overlap with backward: use UpdateTiming::kDeferred"));
  }
  core_->gradient_norm = GradientNorm::kOnArrival;
  take_assigned_gradients();
  std::vector<double> sums;
  for (const auto& parameter : core_->parameters()) {
    if (parameter->has_gradient()) sums.push_back(parameter->gradient_sum_of_squares());
  }
  const double norm = global_norm(sums);
  const double scale = clip_coefficient(norm, max_norm);
  for (const auto& parameter : core_->parameters()) {
    if (parameter->has_gradient()) parameter->grad_scale = scale;
  }
  return norm;
}

torch::Tensor ChunkedAdamW::step(LossClosure closure) {
  torch::Tensor loss;
  if (closure != nullptr) {
    const at::AutoGradMode with_grad(true);
    loss = closure();
  }
  const at::NoGradGuard no_grad;
  throw_if_error(core_->failure());
  const bool broken_off = schedule_->take_broken_off();
  const std::string left_behind = schedule_->after_a_failure();
  throw_if_error(core_->runtime().gate().take_latched().with_context(
      "[optimizer] step() did nothing, because an operator failed since the last one" + left_behind));
  if (broken_off && !left_behind.empty()) {
    throw Error(
        Status(StatusCode::kInvalidArgument,
               "[optimizer] step() did nothing, because backward() ended with an error since the last one" + left_behind));
  }
  for (const auto& group : param_groups()) (void)adamw_options(group);  // all before the first update is put
  take_assigned_gradients();
  schedule_->step();
  ++steps_;
  end_step();
  return loss;
}

void ChunkedAdamW::take_assigned_gradients() {
  const at::NoGradGuard no_grad;
  for (const auto& group : param_groups()) {
    for (const auto& tensor : group.params()) {
      if (Parameter* const parameter = core_->find(tensor.unsafeGetTensorImpl()); parameter != nullptr) {
        parameter->take_assigned_gradient();
      }
    }
  }
}

void ChunkedAdamW::end_step() {
  core_->runtime().manager().step_done();
  if (EventSink* events = core_->runtime().options().events; events != nullptr) {
    events->on_event({.kind = EventKind::kStep, .bytes = steps_, .time = core_->runtime().clock().now()});
  }
}

}  // namespace patrickstar::bridge
