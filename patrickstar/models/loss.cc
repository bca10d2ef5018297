#include "patrickstar/models/loss.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include <algorithm>
#include <utility>

namespace patrickstar::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The gradient of one part; may be changed in place by the caller.
at::Tensor make_whole(TiedGradient::Part part) {
  at::Tensor whole = std::move(part.whole);
  if (!whole.defined()) {
    whole = at::mm(part.logits_gradient.t(), part.hidden);
  } else if (whole.use_count() > 1) {  // the graph is retained and wants it again
    whole = whole.clone();
  }
  if (part.scale != 1.0) whole.mul_(part.scale);
  return whole;
}

struct TiedEmbeddingFunction : torch::autograd::Function<TiedEmbeddingFunction> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& table, const at::Tensor& tokens,
                               c10::intrusive_ptr<TiedGradient> gradient) {
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({tokens});
    ctx->saved_data["vocabulary"] = table.size(0);
    ctx->saved_data["gradient"] = c10::IValue::make_capsule(std::move(gradient));
    return {at::embedding(table, tokens), table.detach()};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "[tied_embedding] has no second derivative (create_graph)");
    const auto shared = c10::static_intrusive_pointer_cast<TiedGradient>(ctx->saved_data["gradient"].toCapsule());
    at::Tensor sum;
    for (auto& part : shared->take(torch::autograd::get_current_graph_task_id())) {
      at::Tensor whole = make_whole(std::move(part));
      sum = sum.defined() ? sum.add_(whole) : std::move(whole);
    }
    if (gradients[1].defined()) sum = sum.defined() ? sum.add_(gradients[1]) : gradients[1].clone();
    if (gradients[0].defined()) {
      const at::Tensor& rows = gradients[0];
      const std::int64_t hidden = rows.size(-1);
      if (!sum.defined()) sum = at::zeros({ctx->saved_data["vocabulary"].toInt(), hidden}, rows.options());
      sum.index_add_(0, ctx->get_saved_variables()[0].reshape({-1}), rows.reshape({-1, hidden}));
    }
    return {std::move(sum), at::Tensor(), at::Tensor()};
  }
};

enum class Wanted : std::uint8_t { kNo, kYes };

// Cross entropy of the rows of `logits`, which become d(mean loss)/d(logits) if that is wanted (else they are undefined after).
// `scratch` [chunk_rows, vocabulary] in the accumulation dtype, or undefined if the logits are in it themselves.
void cross_entropy_rows(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses, const at::Tensor& scratch,
                        std::int64_t chunk_rows, double inverse_tokens, Wanted gradient) {
  for (std::int64_t begin = 0; begin < logits.size(0); begin += chunk_rows) {
    const std::int64_t rows = std::min(chunk_rows, logits.size(0) - begin);
    at::Tensor slice = logits.narrow(0, begin, rows);
    at::Tensor p = scratch.defined() ? scratch.narrow(0, 0, rows).copy_(slice) : slice;
    const at::Tensor target = targets.narrow(0, begin, rows).unsqueeze(1);
    const at::Tensor picked = p.gather(1, target);
    const at::Tensor largest = p.amax(1, /*keepdim=*/true);
    at::_softmax_out(p, p, 1, /*half_to_float=*/false);
    // log(sum(exp(x))) = max(x) - log(max(p)), and max(p) >= 1 / vocabulary never underflows.
    losses.narrow(0, begin, rows).copy_((largest - p.amax(1, true).log_() - picked).squeeze(1));
    if (gradient == Wanted::kNo) continue;
    p.scatter_add_(1, target, at::full_like(picked, -1.0));
    p.mul_(inverse_tokens);
    if (scratch.defined()) slice.copy_(p);
  }
}

struct Wants {
  Wanted hidden = Wanted::kNo;
  Wanted weight = Wanted::kNo;
};

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                            c10::intrusive_ptr<TiedGradient> tied, Wants wants, LossOptions options) {
    const std::int64_t tokens = hidden.size(0);
    const std::int64_t vocabulary = weight.size(0);
    const bool want_weight = wants.weight == Wanted::kYes;
    const Wanted want_any = want_weight ? Wanted::kYes : wants.hidden;
    // d(logits) is kept for the embedding where it is no larger than the weight's gradient [Note: Gradient of a tied table].
    const bool keep = want_weight && tied && tokens <= hidden.size(1);
    const std::int64_t block_rows = keep ? tokens : std::min(tokens, options.block_rows);
    const auto accumulate = weight.options().dtype(at::toOpMathType(weight.scalar_type()));

    at::Tensor losses = at::empty({tokens}, accumulate);
    at::Tensor scratch;
    if (accumulate.dtype() != weight.dtype()) {
      scratch = at::empty({std::min(options.chunk_rows, block_rows), vocabulary}, accumulate);
    }
    at::Tensor hidden_gradient = wants.hidden == Wanted::kYes ? at::empty_like(hidden) : at::Tensor();
    at::Tensor weight_gradient;
    at::Tensor kept;
    for (std::int64_t begin = 0; begin < tokens; begin += block_rows) {
      const std::int64_t rows = std::min(block_rows, tokens - begin);
      const at::Tensor block = hidden.narrow(0, begin, rows);
      at::Tensor logits = at::mm(block, weight.t());
      cross_entropy_rows(logits, targets.narrow(0, begin, rows), losses.narrow(0, begin, rows), scratch, options.chunk_rows,
                         1.0 / static_cast<double>(tokens), want_any);
      if (hidden_gradient.defined()) {
        at::Tensor part = hidden_gradient.narrow(0, begin, rows);
        at::mm_out(part, logits, weight);
      }
      if (keep) {
        kept = std::move(logits);
      } else if (want_weight) {
        weight_gradient = weight_gradient.defined() ? weight_gradient.addmm_(logits.t(), block) : at::mm(logits.t(), block);
      }
    }
    ctx->save_for_backward({hidden_gradient, kept, keep ? hidden : at::Tensor(), weight_gradient});
    if (tied) ctx->saved_data["tied"] = c10::IValue::make_capsule(std::move(tied));
    return losses.sum().mul_(1.0 / static_cast<double>(tokens));
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "[linear_cross_entropy] has no second derivative (create_graph)");
    const double scale = gradients[0].item<double>();
    const auto saved = ctx->get_saved_variables();
    const auto scaled = [scale](const at::Tensor& t) { return scale == 1.0 ? t : t * scale; };
    at::Tensor hidden_gradient = saved[0].defined() && ctx->needs_input_grad(0) ? scaled(saved[0]) : at::Tensor();
    at::Tensor weight_gradient;
    if ((saved[1].defined() || saved[3].defined()) && ctx->needs_input_grad(1)) {
      if (const auto tied = ctx->saved_data.find("tied"); tied != ctx->saved_data.end()) {
        c10::static_intrusive_pointer_cast<TiedGradient>(tied->second.toCapsule())
            ->add(torch::autograd::get_current_graph_task_id(),
                  {saved[1], saved[2].defined() ? saved[2].detach() : at::Tensor(), saved[3], scale});
      } else {
        weight_gradient = scaled(saved[3]);
      }
    }
    return {hidden_gradient, weight_gradient, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

void TiedGradient::add(int graph_task, Part part) {
  if (graph_task != graph_task_) parts_.clear();
  graph_task_ = graph_task;
  parts_.push_back(std::move(part));
}

std::vector<TiedGradient::Part> TiedGradient::take(int graph_task) {
  std::vector<Part> parts = std::exchange(parts_, {});
  if (graph_task != graph_task_) parts.clear();
  return parts;
}

TiedEmbedding tied_embedding(const at::Tensor& table, const at::Tensor& tokens) {
  if (!at::GradMode::is_enabled() || !table.requires_grad()) return {at::embedding(table, tokens), table, {}};
  auto gradient = c10::make_intrusive<TiedGradient>();
  variable_list outputs = TiedEmbeddingFunction::apply(table, tokens, gradient);
  return {std::move(outputs[0]), std::move(outputs[1]), std::move(gradient)};
}

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                c10::intrusive_ptr<TiedGradient> gradient, const LossOptions& options) {
  TORCH_CHECK(hidden.dim() == 2 && weight.dim() == 2 && hidden.size(1) == weight.size(1) && targets.dim() == 1 &&
                  targets.size(0) == hidden.size(0) && targets.size(0) > 0,
              "[linear_cross_entropy] takes hidden [tokens, hidden], weight [vocabulary, hidden] and at least one target "
              "[tokens]; got ",
              hidden.sizes(), ", ", weight.sizes(), " and ", targets.sizes());
  TORCH_CHECK(options.chunk_rows > 0 && options.block_rows > 0, "[linear_cross_entropy] chunk_rows ", options.chunk_rows,
              " and block_rows ", options.block_rows, " must be at least 1");
  const bool record = at::GradMode::is_enabled();
  const auto wanted = [record](const at::Tensor& t) { return record && t.requires_grad() ? Wanted::kYes : Wanted::kNo; };
  return LinearCrossEntropy::apply(hidden, weight, targets, std::move(gradient), Wants{wanted(hidden), wanted(weight)}, options);
}

}  // namespace patrickstar::models
