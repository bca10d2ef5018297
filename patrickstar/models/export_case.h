// Writes the directory that tests/e2e/reference.py reads (format: top of that file), for a comparison with plain PyTorch.
//
// Values are read through operators and rounded to or widened to fp32. A file that cannot be written is a c10::Error with its
// name and the cause.
#pragma once

#include <cstdint>
#include <filesystem>

#include "patrickstar/models/transformer.h"

namespace patrickstar::models {

struct CaseTraining {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
};

// case.json, weights/, tokens.bin, targets.bin: the model as it stands. tokens and targets int64 [steps, batch, sequence].
void export_case(const std::filesystem::path& directory, const Transformer& model, const CaseTraining& training,
                 const at::Tensor& tokens, const at::Tensor& targets);

// logits.bin, losses.bin, final/: the outcome. logits [batch, sequence, vocab] of the initial weights on step 0's tokens, losses
// [steps], the model after the last update.
void export_results(const std::filesystem::path& directory, const Transformer& model, const at::Tensor& logits,
                    const at::Tensor& losses);

}  // namespace patrickstar::models
