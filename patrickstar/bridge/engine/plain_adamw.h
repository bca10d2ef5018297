// PlainAdamW: the same arithmetic over ordinary tensors: LibTorch alone, the baseline that ours must equal bit for bit.
//
// No Runtime, hook or allocator of ours exists in such a run. Also the shortest description of what ChunkedAdamW computes.
#pragma once

#include <torch/nn/module.h>
#include <torch/optim/adamw.h>

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "patrickstar/core/base/dtype.h"
#include "patrickstar/core/optim/adamw.h"

namespace patrickstar::bridge {

// Masters of parameters that were converted: they start from the fp32 value, as Engine::attach's do.
class PlainModelData {
 public:
  explicit PlainModelData(DType dtype) : dtype_(dtype) {}
  // Converts the parameters of `module` that were not seen yet to the dtype, keeping fp32 masters of 16-bit ones.
  void attach(torch::nn::Module& module, const std::string& prefix = "");

  struct Entry {
    std::string name;
    torch::Tensor tensor;
    torch::Tensor master;  // undefined in fp32 training
    torch::Tensor exp_avg;
    torch::Tensor exp_avg_sq;
    std::int64_t step = 0;
    std::shared_ptr<torch::autograd::Node> accumulator;  // while gradients are watched
  };
  std::vector<Entry>& entries() { return entries_; }  // in registration order
  Entry* find(const c10::TensorImpl* tensor);
  // As Engine::visit.
  using Visitor = std::function<void(const std::string& name, const char* kind, const void* data, Bytes bytes)>;
  void visit(const Visitor& visitor);
  // All kinds, with gradients where the scheme has them apart from the parameters.
  Bytes bytes_with_gradients() const;
  // Calls with the gradient of each trained entry from `first` on whenever autograd has put one.
  void watch_gradients(std::size_t first, std::function<void(const torch::Tensor& gradient)> watcher);

 private:
  const DType dtype_;
  std::vector<Entry> entries_;
  std::unordered_map<const c10::TensorImpl*, std::size_t> by_tensor_;
};

class PlainAdamW final : public torch::optim::Optimizer {
 public:
  // `data` outlives the optimizer.
  PlainAdamW(PlainModelData& data, std::vector<torch::optim::OptimizerParamGroup> groups,
             torch::optim::AdamWOptions defaults = {});
  torch::Tensor step(LossClosure closure = nullptr) override;
  double clip_grad_norm_(double max_norm);

 private:
  PlainModelData& data_;
  ParallelFor parallel_for_;
  double grad_scale_ = 1.0;
};

}  // namespace patrickstar::bridge
