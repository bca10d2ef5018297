#include "patrickstar/models/export_case.h"

#include <ATen/Functions.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iomanip>
#include <limits>
#include <sstream>

namespace patrickstar::models {
namespace {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

void write(const std::filesystem::path& path, const void* bytes, std::size_t size) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(size));
  file.close();
  TORCH_CHECK(file.good(), "[export_case] cannot write ", path.string(), ": ", std::strerror(errno));
}

void write(const std::filesystem::path& path, const at::Tensor& tensor, at::ScalarType dtype) {
  // A copy of our own: the tensor's bytes may be out of reach outside operators.
  const at::Tensor own = at::empty(tensor.sizes(), at::TensorOptions().dtype(dtype)).copy_(tensor.detach());
  write(path, own.const_data_ptr(), own.nbytes());
}

void write_parameters(const std::filesystem::path& directory, const Transformer& model) {
  std::filesystem::create_directories(directory);
  for (const auto& item : model.named_parameters()) write(directory / (item.key() + ".bin"), item.value(), at::kFloat);
}

std::string description(const TransformerConfig& c, const CaseTraining& t, at::IntArrayRef shape) {
  std::ostringstream out;
  out << std::setprecision(std::numeric_limits<double>::max_digits10);
  out << "{\"config\": {\"vocab_size\": " << c.vocab_size << ", \"hidden_size\": " << c.hidden_size
      << ", \"layers\": " << c.layers << ", \"heads\": " << c.heads << ", \"kv_heads\": " << c.kv_heads
      << ", \"intermediate_size\": " << c.intermediate_size << ", \"max_positions\": " << c.max_positions
      << ",\n  \"positions\": " << (c.positions == Positions::kLearned ? "\"learned\"" : "\"rotary\"")
      << ", \"norm\": " << (c.norm == Norm::kLayer ? "\"layer\"" : "\"rms\"")
      << ", \"mlp\": " << (c.mlp == Mlp::kGelu ? "\"gelu\"" : "\"swiglu\"")
      << ", \"head\": " << (c.head == Head::kTied ? "\"tied\"" : "\"untied\"")
      << ", \"biases\": " << (c.biases == Biases::kAll ? "\"all\"" : "\"none\"") << ",\n  \"norm_eps\": " << c.norm_eps
      << ", \"rope_theta\": " << c.rope_theta << "},\n \"steps\": " << shape[0] << ", \"batch\": " << shape[1]
      << ", \"sequence\": " << shape[2] << ",\n \"learning_rate\": " << t.learning_rate << ", \"beta1\": " << t.beta1
      << ", \"beta2\": " << t.beta2 << ", \"epsilon\": " << t.epsilon << ", \"weight_decay\": " << t.weight_decay << "}\n";
  return out.str();
}

}  // namespace

void export_case(const std::filesystem::path& directory, const Transformer& model, const CaseTraining& training,
                 const at::Tensor& tokens, const at::Tensor& targets) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.sizes() == targets.sizes(),
              "[export_case] tokens and targets must be [steps, batch, sequence]; got ", tokens.sizes(), " and ",
              targets.sizes());
  write_parameters(directory / "weights", model);
  write(directory / "tokens.bin", tokens, at::kLong);
  write(directory / "targets.bin", targets, at::kLong);
  const std::string text = description(model.config(), training, tokens.sizes());
  write(directory / "case.json", text.data(), text.size());
}

void export_results(const std::filesystem::path& directory, const Transformer& model, const at::Tensor& logits,
                    const at::Tensor& losses) {
  write_parameters(directory / "final", model);
  write(directory / "logits.bin", logits, at::kFloat);
  write(directory / "losses.bin", losses, at::kFloat);
}

}  // namespace patrickstar::models
