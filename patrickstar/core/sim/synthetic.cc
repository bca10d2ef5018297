#include "patrickstar/core/sim/synthetic.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "patrickstar/core/base/check.h"

namespace patrickstar {
namespace {

constexpr double kOperationsPerNano = 1e3;
constexpr double kUpdateShare = 0.1;  // of the step's compute
constexpr std::uint32_t kDeferEvery = 4;

// One operator with parameters, and what comes until the next such operator.
struct Operator {
  std::vector<TensorId> tensors;
  double operations = 0;
  Bytes kept = 0;  // bytes that its backward needs
};

class Builder {
 public:
  explicit Builder(const GptShape& shape) : shape_(shape), layout_(shape.layout) {
    describe();
    add_payloads();
  }

  Trace build() {
    if (shape_.update == UpdateAt::kNextForward || shape_.update == UpdateAt::kSplit) deferred_ = true;
    forward();
    backward();
    if (shape_.update == UpdateAt::kPhase) {
      for (std::size_t chunk = 0; chunk < layout_.chunks(); ++chunk) update(chunk, [](std::uint32_t) { return true; });
    }
    share_out_updates();
    return std::move(trace_);
  }

 private:
  // --- the model ------------------------------------------------------------------------------------------------------------

  TensorId tensor(Elems elems) { return layout_.add({.name = "tensor " + std::to_string(layout_.tensors()), .elems = elems}); }

  // out[tokens, to] = in[tokens, from] w[from, to] + b
  Operator linear(Elems from, Elems to, Bytes kept) {
    return {.tensors = {tensor(from * to), tensor(to)},
            .operations = 2.0 * static_cast<double>(shape_.tokens * from * to),
            .kept = kept};
  }
  Operator norm() {
    const Elems h = shape_.hidden;
    return {.tensors = {tensor(h), tensor(h)}, .operations = 20.0 * static_cast<double>(shape_.tokens * h), .kept = row(1)};
  }
  // Bytes of `n` activations of the hidden size for each token.
  Bytes row(Bytes n) const { return n * 2 * shape_.tokens * shape_.hidden; }

  void describe() {
    const Elems h = shape_.hidden;
    const TensorId embedding = tensor(shape_.vocab * h);
    operators_.push_back({.tensors = {embedding, tensor(shape_.positions * h)},
                          .operations = static_cast<double>(2 * shape_.tokens * h),
                          .kept = row(1)});
    for (int layer = 0; layer < shape_.layers; ++layer) {
      operators_.push_back(norm());
      operators_.push_back(linear(h, 3 * h, row(3 + 1)));  // and attention
      operators_.back().operations += 4.0 * static_cast<double>(shape_.tokens * shape_.positions * h);
      operators_.push_back(linear(h, h, row(1)));
      operators_.push_back(norm());
      operators_.push_back(linear(h, 4 * h, row(4 + 4)));  // and its non-linearity
      operators_.push_back(linear(4 * h, h, row(1)));
    }
    operators_.push_back(norm());
    operators_.push_back({.tensors = {embedding},
                          .operations = 2.0 * static_cast<double>(shape_.tokens * shape_.vocab * h),
                          .kept = 4 * shape_.tokens * shape_.vocab});  // logits
    layout_.close();
  }

  void add_payloads() {
    for (std::size_t i = 0; i < layout_.chunks(); ++i) {
      const ChunkId chunk(i);
      params_.push_back(add(PayloadKind::kParam, Layout::payload_bytes(layout_.chunk(chunk).elems, DType::kBFloat16)));
      tiles_.emplace_back();
      for (const TileRange& tile : layout_.tiles(chunk))
        tiles_.back().push_back({add(PayloadKind::kState, Layout::tile_bytes(tile, 3)), tile.elems, next_tile_++});
      gradients_lacking_.push_back(layout_.chunk(chunk).tensors.size());
    }
  }
  PayloadId add(PayloadKind kind, Bytes bytes) {
    trace_.payloads.push_back({.kind = kind, .bytes = bytes});
    return PayloadId(trace_.payloads.size() - 1);
  }

  // --- the step -------------------------------------------------------------------------------------------------------------

  void moment(const std::vector<Access>& accesses, double nanos, Bytes transient = 0) {
    trace_.moments.push_back({.first = static_cast<std::uint32_t>(trace_.accesses.size()),
                              .count = static_cast<std::uint32_t>(accesses.size()),
                              .non_model = activations_ + transient,
                              .compute = static_cast<Nanos>(nanos)});
    trace_.accesses.insert(trace_.accesses.end(), accesses.begin(), accesses.end());
  }
  std::set<std::size_t> chunks_of(const Operator& op) const {
    std::set<std::size_t> chunks;
    for (const TensorId id : op.tensors) chunks.insert(layout_.place(id).chunk.index());
    return chunks;
  }
  void access_all(const Operator& op, AccessMode mode, double nanos, Bytes transient = 0) {
    std::vector<Access> accesses;
    for (const std::size_t chunk : chunks_of(op)) accesses.push_back({params_[chunk], mode});
    moment(accesses, nanos, transient);
  }
  void run_forward(std::size_t index) {
    const Operator& op = operators_[index];
    activations_ += op.kept;
    access_all(op, AccessMode::kRead, op.operations / kOperationsPerNano);
  }

  bool recomputed(std::size_t index) const {
    return shape_.recompute == Recompute::kBlocks && index > 0 && index + 2 < operators_.size();
  }
  // Of the block that operator `index` belongs to.
  static std::size_t first_of_block(std::size_t index) { return (index - 1) / 6 * 6 + 1; }

  void forward() {
    std::vector<bool> used(layout_.chunks(), false);
    for (std::size_t i = 0; i < operators_.size(); ++i) {
      for (const std::size_t chunk : chunks_of(operators_[i])) {
        if (deferred_ && !used[chunk]) update(chunk, [this](std::uint32_t tile) { return is_deferred(tile); });
        used[chunk] = true;
      }
      run_forward(i);
      if (recomputed(i) && first_of_block(i) + 5 == i) drop_block(i);
    }
  }
  // Of a whole block only what went into it stays.
  void drop_block(std::size_t last) {
    for (std::size_t i = first_of_block(last); i <= last; ++i) activations_ -= operators_[i].kept;
    activations_ += row(1);
  }

  void backward() {
    const Bytes embedding_gradient = 2 * shape_.vocab * shape_.hidden;
    for (std::size_t i = operators_.size(); i-- > 0;) {
      const Operator& op = operators_[i];
      if (recomputed(i) && first_of_block(i) + 5 == i) {
        activations_ -= row(1);
        for (std::size_t k = first_of_block(i); k <= i; ++k) run_forward(k);
      }
      access_all(op, AccessMode::kRead, 2 * op.operations / kOperationsPerNano, op.kept);  // and the gradient of what it kept
      activations_ -= op.kept;
      if (i + 1 == operators_.size()) {
        activations_ += embedding_gradient;  // whole only when the embedding's own part has come
        continue;
      }
      if (i == 0) activations_ -= embedding_gradient;
      arrive(op);
    }
    PS_CHECK(activations_ == 0);
  }
  void arrive(const Operator& op) {
    access_all(op, AccessMode::kWrite, 0);
    for (const TensorId id : op.tensors) {
      const std::size_t chunk = layout_.place(id).chunk.index();
      if (--gradients_lacking_[chunk] > 0 || shape_.update == UpdateAt::kPhase) continue;
      update(chunk, [this](std::uint32_t tile) { return !is_deferred(tile); });
    }
  }

  // --- updates --------------------------------------------------------------------------------------------------------------

  bool is_deferred(std::uint32_t tile) const {
    return shape_.update == UpdateAt::kNextForward || (shape_.update == UpdateAt::kSplit && tile % kDeferEvery == 0);
  }
  template <class Which>
  void update(std::size_t chunk, Which which) {
    for (const Tile& tile : tiles_[chunk]) {
      if (!which(tile.number)) continue;
      updates_.emplace_back(trace_.moments.size(), tile.elems);
      moment({{params_[chunk], AccessMode::kWrite}, {tile.payload, AccessMode::kWrite}}, 0);
    }
  }
  void share_out_updates() {
    Elems elems = 0;
    for (const auto& [moment, of_tile] : updates_) elems += of_tile;
    const double all = static_cast<double>(trace_.compute()) * kUpdateShare / (1 - kUpdateShare);
    for (const auto& [moment, of_tile] : updates_)
      trace_.moments[moment].compute = static_cast<Nanos>(all * static_cast<double>(of_tile) / static_cast<double>(elems));
  }

  struct Tile {
    PayloadId payload;
    Elems elems = 0;
    std::uint32_t number = 0;  // among all tiles
  };

  const GptShape& shape_;
  Layout layout_;
  std::vector<Operator> operators_;  // in the order of forward
  std::vector<PayloadId> params_;    // by chunk
  std::vector<std::vector<Tile>> tiles_;
  std::vector<std::size_t> gradients_lacking_;  // by chunk: tensors
  std::uint32_t next_tile_ = 0;
  bool deferred_ = false;
  Bytes activations_ = 0;
  std::vector<std::pair<std::size_t, Elems>> updates_;  // moment, elements
  Trace trace_;
};

}  // namespace

Trace gpt_trace(const GptShape& shape) {
  PS_CHECK(shape.layers > 0 && shape.hidden > 0 && shape.vocab > 0 && shape.positions > 0 && shape.tokens > 0);
  return Builder(shape).build();
}

void scale_compute(Trace* trace, Nanos total) {
  const auto before = static_cast<double>(trace->compute());
  PS_CHECK(before > 0 && total >= 0);
  double exact = 0;  // rounded as a running sum, so that the whole is exact
  Nanos given = 0;
  for (Moment& moment : trace->moments) {
    exact += static_cast<double>(moment.compute) / before * static_cast<double>(total);
    moment.compute = std::clamp<Nanos>(static_cast<Nanos>(exact + 0.5) - given, 0, total - given);
    given += moment.compute;
  }
  trace->moments.back().compute += total - given;
}

Bytes budget_with_room(const Trace& trace, double share) {
  Bytes peak = 0;
  for (const Moment& moment : trace.moments) peak = std::max(peak, moment.non_model);
  return peak + static_cast<Bytes>(share * static_cast<double>(trace.model_data_bytes()));
}

}  // namespace patrickstar
