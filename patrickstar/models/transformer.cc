#include "patrickstar/models/transformer.h"

#include <ATen/Functions.h>

#include <utility>

#include "patrickstar/models/checkpoint.h"
#include "patrickstar/models/layers.h"
#include "patrickstar/models/loss.h"

namespace patrickstar::models {

struct EmbeddingPart final : torch::nn::Module {
  explicit EmbeddingPart(const TransformerConfig& c) {
    tokens = register_parameter("tokens", normal_parameter({c.vocab_size, c.hidden_size}, c.initializer_std));
    if (c.positions == Positions::kLearned) {
      positions = register_parameter("positions", normal_parameter({c.max_positions, c.hidden_size}, c.initializer_std));
    }
  }

  at::Tensor tokens;
  at::Tensor positions;
};

struct FinalPart final : torch::nn::Module {
  explicit FinalPart(const TransformerConfig& c) {
    norm = register_module("norm", std::make_shared<NormLayer>(c.hidden_size, c.norm, c.norm_eps));
    if (c.head == Head::kUntied) {
      head =
          register_module("head", std::make_shared<LinearLayer>(c.hidden_size, c.vocab_size, Biases::kNone, c.initializer_std));
    }
  }

  std::shared_ptr<NormLayer> norm;
  std::shared_ptr<LinearLayer> head;  // null when tied
};

// What comes out of the last norm, and the matrix for the head.
struct Stream {
  at::Tensor hidden;
  at::Tensor head;
  c10::intrusive_ptr<TiedGradient> gradient;
};

namespace {

bool any_requires_grad(const torch::nn::Module& module) {
  for (const at::Tensor& parameter : module.parameters()) {
    if (parameter.requires_grad()) return true;
  }
  return false;
}

}  // namespace

Transformer::Transformer(const TransformerConfig& config, TransformerOptions options) : config_(config) {
  if (const auto problem = validate(config)) TORCH_CHECK(false, *problem);
  TORCH_CHECK(!options.on_built || options.dtype == at::kFloat,
              "[transformer] with on_built the callback converts the parts itself: leave dtype at fp32");
  const auto built = [&options](torch::nn::Module& part) {
    if (options.on_built) {
      options.on_built(part);
    } else if (options.dtype != at::kFloat) {
      part.to(options.dtype);
    }
  };
  embedding_ = register_module("embedding", std::make_shared<EmbeddingPart>(config));
  built(*embedding_);
  auto list = register_module("blocks", std::make_shared<torch::nn::Module>("blocks"));
  for (std::int64_t i = 0; i < config.layers; ++i) {
    blocks_.push_back(list->register_module(std::to_string(i), std::make_shared<Block>(config)));
    built(*blocks_.back());
  }
  final_ = register_module("final", std::make_shared<FinalPart>(config));
  built(*final_);
}

Stream Transformer::run(const at::Tensor& tokens) {
  TORCH_CHECK(tokens.dim() == 2 && tokens.scalar_type() == at::kLong && tokens.numel() > 0,
              "[transformer] tokens must be int64 [batch, sequence], not empty; got ", tokens.scalar_type(), " ", tokens.sizes());
  const std::int64_t sequence = tokens.size(1);
  TORCH_CHECK(sequence <= config_.max_positions, "[transformer] a sequence of ", sequence,
              " tokens is longer than max_positions ", config_.max_positions);

  Stream stream;
  at::Tensor x;
  if (config_.head == Head::kTied) {
    TiedEmbedding tied = tied_embedding(embedding_->tokens, tokens);
    x = std::move(tied.rows);
    stream.head = std::move(tied.table);
    stream.gradient = std::move(tied.gradient);
  } else {
    x = at::embedding(embedding_->tokens, tokens);
    stream.head = final_->head->weight;
  }
  RotaryTables rotary;
  if (config_.positions == Positions::kLearned) {
    x = x + embedding_->positions.narrow(0, 0, sequence);
  } else {
    rotary = rotary_tables(sequence, config_.head_dim(), config_.rope_theta, tokens.device());
  }
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (!left_out_.empty() && left_out_[i]) continue;
    const auto& block = blocks_[i];
    if (config_.activations == Activations::kCheckpoint) {
      x = checkpoint([block, rotary](const at::Tensor& input) { return block->forward(input, rotary); }, x,
                     any_requires_grad(*block) ? Captured::kTrainable : Captured::kFrozen);
    } else {
      x = block->forward(x, rotary);
    }
  }
  stream.hidden = final_->norm->forward(x);
  return stream;
}

at::Tensor Transformer::forward(const at::Tensor& tokens) {
  const Stream stream = run(tokens);
  return at::linear(stream.hidden, stream.head);
}

at::Tensor Transformer::loss(const at::Tensor& tokens, const at::Tensor& targets) {
  TORCH_CHECK(targets.sizes() == tokens.sizes() && targets.scalar_type() == at::kLong,
              "[transformer] targets must be int64 of the tokens' shape ", tokens.sizes(), "; got ", targets.scalar_type(), " ",
              targets.sizes());
  Stream stream = run(tokens);
  return linear_cross_entropy(stream.hidden.flatten(0, 1), stream.head, targets.reshape({-1}), std::move(stream.gradient),
                              {.chunk_rows = config_.logits_chunk_rows});
}

void Transformer::leave_out(std::vector<bool> layers) {
  TORCH_CHECK(layers.empty() || layers.size() == blocks_.size(), "[transformer] leave_out() of ", layers.size(),
              " layers: the model has ", config_.layers);
  left_out_ = std::move(layers);
}

void Transformer::freeze_first_layers(std::int64_t n) {
  TORCH_CHECK(n >= 0 && n <= config_.layers, "[transformer] freeze_first_layers(", n, "): the model has ", config_.layers,
              " layers");
  if (n == 0) return;
  const auto freeze = [](torch::nn::Module& part) {
    for (at::Tensor& parameter : part.parameters()) parameter.set_requires_grad(false);
  };
  freeze(*embedding_);
  for (std::int64_t i = 0; i < n; ++i) freeze(*blocks_[static_cast<std::size_t>(i)]);
}

}  // namespace patrickstar::models
