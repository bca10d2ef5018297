#include "patrickstar/models/checkpoint.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/custom_class.h>

#include <mutex>
#include <utility>
#include <vector>

namespace patrickstar::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Body = std::function<at::Tensor(at::Tensor)>;

// The default generators that a body on `device` can draw from, and their states at one moment.
class GeneratorStates {
 public:
  explicit GeneratorStates(c10::Device device) {
    remember(c10::Device(c10::kCPU));
    if (!device.is_cpu()) remember(device);
  }

  void restore() const {
    for (const auto& [generator, state] : states_) {
      at::Generator target = generator;  // a handle
      const std::lock_guard<std::mutex> lock(target.mutex());
      target.set_state(state);
    }
  }

 private:
  void remember(c10::Device device) {
    at::Generator generator = at::globalContext().defaultGenerator(device);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    states_.emplace_back(generator, generator.get_state());
  }

  std::vector<std::pair<at::Generator, at::Tensor>> states_;
};

// Puts the present states back at the end of the scope, also when the body throws.
class GeneratorGuard {
 public:
  explicit GeneratorGuard(c10::Device device) : present_(device) {}
  ~GeneratorGuard() { present_.restore(); }
  GeneratorGuard(const GeneratorGuard&) = delete;
  GeneratorGuard& operator=(const GeneratorGuard&) = delete;

 private:
  GeneratorStates present_;
};

struct Saved final : torch::CustomClassHolder {
  Saved(Body function, GeneratorStates before) : body(std::move(function)), generators(std::move(before)) {}
  Body body;
  GeneratorStates generators;
};

struct Checkpoint : torch::autograd::Function<Checkpoint> {
  // `anchor` is an empty leaf that needs a gradient: through it backward comes here even if the input needs none.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& anchor, Body body) {
    static_cast<void>(anchor);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({input});
    ctx->saved_data["input_needs_gradient"] = input.requires_grad();
    auto saved = c10::make_intrusive<Saved>(std::move(body), GeneratorStates(input.device()));
    ctx->saved_data["saved"] = c10::IValue::make_capsule(saved);
    return saved->body(input.detach());  // grad mode is off in here
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    TORCH_CHECK(torch::autograd::Engine::get_default_engine().is_checkpoint_valid(),
                "[checkpoint] works with loss.backward() only, not with autograd::grad or backward(inputs): the gradients of "
                "what the body captures would be lost. Switch activation checkpointing off for this call");
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor(), at::Tensor()};
    const auto saved = c10::static_intrusive_pointer_cast<Saved>(ctx->saved_data["saved"].toCapsule());
    at::Tensor input = ctx->get_saved_variables()[0].detach();
    input.set_requires_grad(ctx->saved_data["input_needs_gradient"].toBool());
    at::Tensor output;
    {
      const GeneratorGuard guard(input.device());
      saved->generators.restore();
      const at::AutoGradMode record(true);
      output = saved->body(input);
    }
    if (output.requires_grad()) {
      at::Tensor gradient = std::move(gradients[0]);
      gradients.clear();
      torch::autograd::backward({std::move(output)}, {std::move(gradient)});
    }
    return {input.grad(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor checkpoint(Body body, const at::Tensor& input, Captured captured) {
  if (!at::GradMode::is_enabled() || (!input.requires_grad() && captured == Captured::kFrozen)) return body(input);
  at::Tensor anchor = at::empty({0}, input.options()).set_requires_grad(captured == Captured::kTrainable);
  return Checkpoint::apply(input, anchor, std::move(body));
}

}  // namespace patrickstar::models
