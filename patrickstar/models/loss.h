// The two ends of a language model whose memory matters: the token embedding, and the head with its cross entropy.
//
// [Note: Gradient of a tied table] A vocabulary is the largest tensor of the model, and plain autograd holds up to three
// gradients of its size: the head's, from the start of backward to its end, the embedding's, and their sum. Here the head
// leaves in a TiedGradient what its part will be made of, and the embedding's backward, the last of all, makes the one
// gradient and adds its rows in place. Until then only the smaller is held of d(logits) [tokens, vocabulary] (tokens <=
// hidden) and the head's part [vocabulary, hidden] (tokens > hidden). Autograd sees ordinary edges (table -> embedding -> head
// through the returned alias), so hooks, accumulation over backwards, frozen tables, retain_graph, several heads on one
// embedding, other uses of the table and autograd::grad work as always. Between the two ends the graph must not be cut into
// a backward of its own (a checkpoint around the head).
//
// Rounding: softmax and loss are taken in fp32 rows; d(logits) is rounded once to the table's dtype; the head's part comes out
// of a product (of up to `block_rows` tokens where tokens > hidden: then blocks are added in that dtype, in order); the
// embedding's rows are added one by one in token order, in that dtype, as torch's own embedding backward does. All in a
// fixed order: the same bits every time for a number of threads. All work goes through dispatched operators.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <vector>

namespace patrickstar::models {

// What the heads of one forward pass leave, in one backward pass, for the embedding's backward. Not thread-safe: a graph has one
// embedding node, and its heads come before it.
class TiedGradient final : public torch::CustomClassHolder {
 public:
  struct Part {
    at::Tensor logits_gradient;  // [tokens, vocabulary], with `hidden` [tokens, hidden]: the part is their product
    at::Tensor hidden;
    at::Tensor whole;  // or: the part itself [vocabulary, hidden]
    double scale = 1.0;
  };

  // Parts that a backward left behind when it failed half-way are dropped: `graph_task` tells one backward from another.
  void add(int graph_task, Part part);
  std::vector<Part> take(int graph_task);

 private:
  int graph_task_ = -1;
  std::vector<Part> parts_;
};

struct TiedEmbedding {
  at::Tensor rows;                            // [..., hidden]: the embedded tokens
  at::Tensor table;                           // [vocabulary, hidden]: the same memory, for the heads of the same forward pass
  c10::intrusive_ptr<TiedGradient> gradient;  // null when the table needs none
};

// table [vocabulary, hidden], tokens int64 of any shape.
TiedEmbedding tied_embedding(const at::Tensor& table, const at::Tensor& tokens);

struct LossOptions {
  std::int64_t chunk_rows = 64;   // rows of logits in fp32 at once
  std::int64_t block_rows = 256;  // rows of logits a product makes at once where d(logits) is not kept whole
};

// Mean cross entropy (a scalar, fp32) of softmax(hidden weight^T) against targets; equals at::cross_entropy over the fp32
// logits up to rounding. hidden [tokens, hidden], weight [vocabulary, hidden], targets int64 [tokens] within [0, vocabulary).
// Full logits exist only in the weight's dtype and only as d(logits) of a tied table (see the note). Gradients are computed
// along with the loss, so backward needs the weight no more; a gradient of the loss other than 1 scales them.
// REQUIRES: `gradient` comes from the tied_embedding whose table is `weight`, or is null.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                c10::intrusive_ptr<TiedGradient> gradient, const LossOptions& options);

}  // namespace patrickstar::models
