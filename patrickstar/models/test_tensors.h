// What the tests of this folder share: bitwise comparison of tensors and gradients.
#pragma once

#include <ATen/Functions.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <string>
#include <utility>
#include <vector>

namespace patrickstar::models {

// Same dtype, shape and values (a difference in a NaN or the sign of a zero does not matter to anyone).
inline testing::AssertionResult same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.defined() != b.defined()) return testing::AssertionFailure() << "only one is defined";
  if (!a.defined()) return testing::AssertionSuccess();
  if (a.scalar_type() != b.scalar_type()) return testing::AssertionFailure() << "dtypes differ";
  if (a.sizes() != b.sizes()) return testing::AssertionFailure() << "shapes differ";
  if (at::equal(a, b)) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "largest difference " << (a - b).abs().max().item<double>();
}

// |a - b| <= tolerance * largest |b|.
inline testing::AssertionResult close(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  if (!a.defined() || !b.defined()) return testing::AssertionFailure() << "not defined";
  if (a.sizes() != b.sizes()) return testing::AssertionFailure() << "shapes differ";
  const double scale = b.abs().max().item<double>();
  const double difference = (a - b).abs().max().item<double>();
  if (difference <= tolerance * scale) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "largest difference " << difference << " of values up to " << scale;
}

using Named = std::vector<std::pair<std::string, at::Tensor>>;

// The gradients by name (undefined where there is none); clears them.
inline Named take_gradients(torch::nn::Module& module) {
  Named gradients;
  for (auto& item : module.named_parameters()) {
    gradients.emplace_back(item.key(), item.value().grad());
    item.value().mutable_grad().reset();
  }
  return gradients;
}

inline void expect_same_bits(const Named& a, const Named& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i].second, b[i].second)) << a[i].first;
}

}  // namespace patrickstar::models
