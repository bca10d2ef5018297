#include "patrickstar/bridge/engine/plain_adamw.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "patrickstar/bridge/device/parallel.h"
#include "patrickstar/bridge/engine/adamw_groups.h"
#include "patrickstar/core/optim/convert.h"
#include "patrickstar/core/optim/grad_norm.h"

namespace patrickstar::bridge {
namespace {

DType dtype_of(const torch::Tensor& tensor) { return tensor.scalar_type() == at::kFloat ? DType::kFloat32 : DType::kBFloat16; }

}  // namespace

void PlainModelData::attach(torch::nn::Module& module, const std::string& prefix) {
  const at::NoGradGuard no_grad;
  for (const auto& item : module.named_parameters(/*recurse=*/true)) {
    torch::Tensor tensor = item.value();
    if (!tensor.defined() || tensor.numel() == 0 || find(tensor.unsafeGetTensorImpl()) != nullptr) continue;
    Entry entry{.name = prefix.empty() ? item.key() : prefix + "." + item.key(), .tensor = tensor};
    if (dtype_ == DType::kBFloat16) {
      if (tensor.requires_grad()) entry.master = tensor.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
      if (tensor.scalar_type() != at::kBFloat16) tensor.set_data(tensor.to(at::kBFloat16));
    } else if (tensor.scalar_type() != at::kFloat) {
      tensor.set_data(tensor.to(at::kFloat));
    }
    if (tensor.requires_grad()) {
      entry.exp_avg = at::zeros_like(tensor, tensor.options().dtype(at::kFloat));
      entry.exp_avg_sq = at::zeros_like(tensor, tensor.options().dtype(at::kFloat));
    }
    by_tensor_.emplace(tensor.unsafeGetTensorImpl(), entries_.size());
    entries_.push_back(std::move(entry));
  }
}

PlainModelData::Entry* PlainModelData::find(const c10::TensorImpl* tensor) {
  const auto found = by_tensor_.find(tensor);
  return found == by_tensor_.end() ? nullptr : &entries_[found->second];
}

void PlainModelData::visit(const Visitor& visitor) {
  const auto visit_one = [&](const Entry& entry, const char* kind, const torch::Tensor& tensor) {
    if (tensor.defined()) visitor(entry.name, kind, tensor.const_data_ptr(), static_cast<Bytes>(tensor.nbytes()));
  };
  for (const Entry& entry : entries_) {
    visit_one(entry, "param", entry.tensor);
    visit_one(entry, "master", entry.master);
    visit_one(entry, "exp_avg", entry.exp_avg);
    visit_one(entry, "exp_avg_sq", entry.exp_avg_sq);
  }
}

Bytes PlainModelData::bytes_with_gradients() const {
  Bytes sum = 0;
  for (const Entry& entry : entries_) {
    for (const torch::Tensor* tensor : {&entry.tensor, &entry.master, &entry.exp_avg, &entry.exp_avg_sq}) {
      if (tensor->defined()) sum += static_cast<Bytes>(tensor->nbytes());
    }
    if (entry.tensor.requires_grad()) sum += static_cast<Bytes>(entry.tensor.nbytes());
  }
  return sum;
}

namespace {

class GradientWatcher final : public torch::autograd::FunctionPostHook {
 public:
  GradientWatcher(torch::Tensor tensor, std::function<void(const torch::Tensor&)> watcher)
      : tensor_(std::move(tensor)), watcher_(std::move(watcher)) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list&) override {
    if (tensor_.grad().defined()) watcher_(tensor_.grad());
    return outputs;
  }

 private:
  const torch::Tensor tensor_;
  const std::function<void(const torch::Tensor&)> watcher_;
};

}  // namespace

void PlainModelData::watch_gradients(std::size_t first, std::function<void(const torch::Tensor& gradient)> watcher) {
  for (std::size_t i = first; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (!entry.tensor.requires_grad()) continue;
    entry.accumulator = torch::autograd::impl::grad_accumulator(entry.tensor);
    entry.accumulator->add_post_hook(std::make_unique<GradientWatcher>(entry.tensor, watcher));
  }
}

PlainAdamW::PlainAdamW(PlainModelData& data, std::vector<torch::optim::OptimizerParamGroup> groups,
                       torch::optim::AdamWOptions defaults)
    : Optimizer(std::move(groups), std::make_unique<torch::optim::AdamWOptions>(defaults)),
      data_(data),
      parallel_for_(torch_parallel_for()) {}

double PlainAdamW::clip_grad_norm_(double max_norm) {
  std::vector<double> sums;
  for (const auto& entry : data_.entries()) {
    const torch::Tensor& grad = entry.tensor.grad();
    if (!grad.defined()) continue;
    sums.push_back(sum_of_squares(grad.const_data_ptr(), dtype_of(grad), grad.numel(), parallel_for_));
  }
  const double norm = global_norm(sums);
  grad_scale_ = clip_coefficient(norm, max_norm);
  return norm;
}

torch::Tensor PlainAdamW::step(LossClosure closure) {
  torch::Tensor loss;
  if (closure != nullptr) {
    const at::AutoGradMode with_grad(true);
    loss = closure();
  }
  const at::NoGradGuard no_grad;
  for (const auto& group : param_groups()) {
    const AdamWOptions options = adamw_options(group);
    for (const auto& tensor : group.params()) {
      auto* entry = data_.find(tensor.unsafeGetTensorImpl());
      if (entry == nullptr || !tensor.grad().defined()) continue;
      const torch::Tensor& grad = tensor.grad();
      const AdamWFactors factors = adamw_factors(options, ++entry->step, grad_scale_);
      const bool has_master = entry->master.defined();
      void* const value = tensor.data_ptr();
      const auto* const gradient = static_cast<const std::byte*>(grad.const_data_ptr());
      const Bytes width = dtype_bytes(dtype_of(grad));
      float* const master = has_master ? entry->master.mutable_data_ptr<float>() : static_cast<float*>(value);
      float* const exp_avg = entry->exp_avg.mutable_data_ptr<float>();
      float* const exp_avg_sq = entry->exp_avg_sq.mutable_data_ptr<float>();
      // In blocks, so that looking for writes behind the optimizer's back finds the bytes that the update needs anyway.
      constexpr Elems kBlock = 16384;
      parallel_for_(ceil_div(tensor.numel(), kBlock), 1, [&](std::int64_t first, std::int64_t last) {
        for (Elems at = first * kBlock; at < std::min<Elems>(last * kBlock, tensor.numel()); at += kBlock) {
          const Elems count = std::min(kBlock, tensor.numel() - at);
          void* const param16 = has_master ? static_cast<std::uint16_t*>(value) + at : nullptr;
          if (has_master) reseed_master(param16, master + at, count);
          adamw_update({.grad = gradient + at * width,
                        .grad_dtype = dtype_of(grad),
                        .master = master + at,
                        .exp_avg = exp_avg + at,
                        .exp_avg_sq = exp_avg_sq + at,
                        .param16 = param16,
                        .count = count},
                       factors, serial_for);
        }
      });
    }
  }
  grad_scale_ = 1.0;
  return loss;
}

}  // namespace patrickstar::bridge
