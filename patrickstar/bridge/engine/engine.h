// Engine: attaches torch::nn::Modules to the Runtime. Their parameters live in chunk space from then on; the loop is unchanged.
//
//   auto runtime = Runtime::create({.memory_budget = 1536 * kMiB, .spill_dir = "/nvme"});
//   Engine engine(runtime, {.dtype = DType::kBFloat16});
//   engine.attach(*model);                            // or block by block while the model is built
//   ChunkedAdamW optimizer(engine, model->parameters(), torch::optim::AdamWOptions(1e-3));
//   loss.backward(); optimizer.step(); optimizer.zero_grad();
//
// Thread safety: attach, read and release on one thread with no operator running on the model; the rest as any module, backward()
// on several threads included (of one that is updated as it arrives, UpdateTiming::kOverlapped, one at a time).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "patrickstar/bridge/engine/engine_core.h"

namespace torch::nn {
class Module;
}

namespace patrickstar::bridge {

struct EngineOptions {
  // Parameters, gradients and activations; kBFloat16 keeps fp32 masters (14 B/param), kFloat32 does not (16 B/param).
  DType dtype = DType::kBFloat16;
  // kOwnChunks for accumulation over micro-batches, or to keep p.grad readable after step(). fp32 always has its own.
  GradientPlacement gradients = GradientPlacement::kInParameter;
  // The order in which each attach() places its tensors (core/mem/tensor_order.h); empty: that of registration. It changes where
  // bytes lie and no bits: tensors keep the ids, and sums the order, of registration. An optimizer refuses a list that is another
  // model's. Names must differ: attach parts with a prefix.
  std::vector<TensorSpec> order;
};

class Engine {
 public:
  Engine(std::shared_ptr<Runtime> runtime, EngineOptions options);
  // Parameters stay readable; their gradients are no longer taken.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Takes over every parameter of `module` that is not attached yet, converting it to the Engine's dtype; masters start from
  // the value as it is handed over. `prefix` goes before names. Buffers stay where they are.
  // Throws Error: a parameter that cannot be managed (named), a budget that its parameters alone prove impossible, no room on the
  // disk; then nothing changed. If it fails after that (a transfer), the Engine is of no use any more: every later attach and
  // step throws the same line, and release() gives the parameters back.
  void attach(torch::nn::Module& module, const std::string& prefix = "");
  // Ordinary tensors again, with storages of their own outside chunk space. Throws Error: no room; then nothing changed
  // for the parameters not reached yet.
  void release(torch::nn::Module& module);

  Bytes model_data_bytes() const;
  std::int64_t parameter_count() const;
  // The tensors behind the payloads, for a trace of this Engine's steps.
  TracedModel traced_model() const;
  Runtime& runtime() { return core_->runtime(); }
  const std::shared_ptr<EngineCore>& core() const { return core_; }

  // Visits all weights, masters and moments in tensor order, streaming. `kind`: "param", "master", "exp_avg", "exp_avg_sq".
  // The bytes are valid during the call. For hashing and saving. Throws Error.
  using Visitor = std::function<void(const std::string& name, const char* kind, const void* data, Bytes bytes)>;
  void visit(const Visitor& visitor);

 private:
  void take_over_parameter(TensorId id, const TensorSpec& spec, at::Tensor& tensor);

  std::shared_ptr<EngineCore> core_;
};

// A lower bound of the budget that a module can be trained in: from its parameters alone. Bytes.
struct SmallestOperator {
  std::string name;  // the largest parameter
  Bytes bytes = 0;   // its value, and its gradient if it has one: both must be there when the gradient arrives
};
SmallestOperator largest_parameter(const torch::nn::Module& module, DType dtype);

}  // namespace patrickstar::bridge
