// The baseline: the same loop on plain LibTorch. With --plain-allocator torch nothing of ours is installed.
#include <torch/nn/module.h>

#include <algorithm>
#include <optional>

#include "apps/cli/trainer.h"
#include "patrickstar/bridge/device/tensor_counter.h"
#include "patrickstar/bridge/engine/plain_adamw.h"

namespace patrickstar::cli {
namespace {

class PlainTrainer final : public Trainer {
 public:
  PlainTrainer(const TrainOptions&, const TrainPlan& plan) : data_(plan.dtype) {
    if (plan.plain_allocator != PlainAllocator::kTorch) counter_.emplace();
    marks_ = plan.plain_allocator == PlainAllocator::kCounting;
  }

  void take_over(torch::nn::Module& part, const std::string& name) override {
    const std::size_t before = data_.entries().size();
    data_.attach(part, name);
    if (!marks_) return;
    for (std::size_t i = before; i < data_.entries().size(); ++i) {
      const auto& entry = data_.entries()[i];
      for (const auto* tensor : {&entry.tensor, &entry.master, &entry.exp_avg, &entry.exp_avg_sq})
        counter_->mark_model_data(*tensor);
    }
    data_.watch_gradients(before, [this](const torch::Tensor& gradient) { counter_->mark_model_data(gradient); });
  }

  torch::optim::Optimizer& make_optimizer(std::vector<torch::optim::OptimizerParamGroup> groups) override {
    optimizer_.emplace(data_, std::move(groups));
    return *optimizer_;
  }

  double clip_grad_norm(double max_norm) override { return optimizer_->clip_grad_norm_(max_norm); }
  Bytes memory_used() const override { return counter_.has_value() ? counter_->peaks().used : 0; }
  Bytes memory_budget() const override { return 0; }
  RunTotals totals() const override { return {}; }

  void begin_step() override {
    // While a part is built its masters and moments are not marked yet: only what steps take counts here.
    if (marks_ && !in_steps_) (void)counter_->take_non_model_peak();
    in_steps_ = true;
  }

  void visit_weights(const Visitor& visitor) override {
    data_.visit([&](const std::string&, const char*, const void* data, Bytes bytes) { visitor(data, bytes); });
  }

  void report_steps(TrainSummary* summary) override {
    summary->runner = "plain";
    summary->model_data_bytes = data_.bytes_with_gradients();
  }
  void report_use(TrainSummary* summary) override {
    if (!marks_) return;
    const LedgerPeaks peaks = counter_->peaks();
    summary->peak_model_bytes = peaks.model;
    summary->peak_non_model_bytes = peaks.non_model;
    summary->peak_total_bytes = peaks.used;
    steps_peak_ = std::max(steps_peak_, counter_->take_non_model_peak());
    summary->steps_peak_non_model_bytes = steps_peak_;
  }

  bool ran_out_of_room() const override { return false; }
  std::string advice() const override { return ""; }

 private:
  std::optional<bridge::TensorCounter> counter_;  // goes last: tensors below come from its pool
  bool marks_ = false;
  bool in_steps_ = false;
  Bytes steps_peak_ = 0;
  bridge::PlainModelData data_;
  std::optional<bridge::PlainAdamW> optimizer_;
};

}  // namespace

std::unique_ptr<Trainer> make_plain_trainer(const TrainOptions& options, const TrainPlan& plan) {
  return std::make_unique<PlainTrainer>(options, plan);
}

}  // namespace patrickstar::cli
