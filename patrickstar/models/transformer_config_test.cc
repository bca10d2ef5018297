#include "patrickstar/models/transformer_config.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <utility>

namespace patrickstar::models {
namespace {

TEST(TransformerConfig, PresetsHaveThePublishedSizes) {
  const std::pair<const char*, std::int64_t> known[] = {{"gpt2", 124439808},       {"gpt2-medium", 354823168},
                                                        {"gpt2-large", 774030080}, {"gpt2-xl", 1557611200},
                                                        {"llama-1b", 1235814400},  {"llama-3b", 3212749824}};
  for (const auto& [name, parameters] : known) {
    const PresetResult result = preset(name);
    ASSERT_TRUE(result.config) << result.error;
    EXPECT_EQ(result.config->parameter_count(), parameters) << name;
  }
}

TEST(TransformerConfig, EveryPresetIsValid) {
  for (const auto name : preset_names()) EXPECT_EQ(validate(*preset(name).config), std::nullopt) << name;
}

TEST(TransformerConfig, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  const PresetResult result = preset("gpt3");
  EXPECT_FALSE(result.config);
  EXPECT_EQ(result.error,
            "[transformer] unknown model 'gpt3': known are gpt2, gpt2-medium, gpt2-large, gpt2-xl, llama-1b, llama-3b, "
            "tiny-gpt2, tiny-llama");
}

TEST(TransformerConfig, ImpossibleShapesAreNamed) {
  struct Case {
    std::function<void(TransformerConfig&)> change;
    const char* message;
  };
  const Case cases[] = {
      {[](auto& c) { c.vocab_size = 0; }, "vocab_size is 0: it must be at least 1"},
      {[](auto& c) { c.hidden_size = -64; }, "hidden_size is -64: it must be at least 1"},
      {[](auto& c) { c.layers = 0; }, "layers is 0: it must be at least 1"},
      {[](auto& c) { c.heads = 0; }, "heads is 0: it must be at least 1"},
      {[](auto& c) { c.kv_heads = -1; }, "kv_heads is -1: it must be at least 1"},
      {[](auto& c) { c.intermediate_size = 0; }, "intermediate_size is 0: it must be at least 1"},
      {[](auto& c) { c.max_positions = 0; }, "max_positions is 0: it must be at least 1"},
      {[](auto& c) { c.logits_chunk_rows = 0; }, "logits_chunk_rows is 0: it must be at least 1"},
      {[](auto& c) { c.layers = std::int64_t{1} << 40; }, "layers is 1099511627776: it must be below 2^31"},
      {[](auto& c) { c.hidden_size = 63; }, "hidden_size 63 is not divisible by heads 8"},
      {[](auto& c) { c.kv_heads = 3; }, "heads 8 is not divisible by kv_heads 3"},
      {[](auto& c) { c.hidden_size = 72; }, "rotary positions need an even head size: hidden_size 72 / heads 8 is 9"},
      {[](auto& c) { c.norm_eps = 0; }, "norm_eps is 0: it must be a positive number"},
      {[](auto& c) { c.rope_theta = -1; }, "rope_theta is -1: it must be a positive number"},
      {[](auto& c) { c.initializer_std = std::numeric_limits<double>::quiet_NaN(); },
       "initializer_std is nan: it must be a positive number"},
  };
  for (const Case& one : cases) {
    TransformerConfig config = *preset("tiny-llama").config;
    one.change(config);
    EXPECT_EQ(validate(config), "[transformer] " + std::string(one.message));
  }
}

TEST(TransformerConfig, AnOddHeadSizeIsFineWithLearnedPositions) {
  TransformerConfig config = *preset("tiny-gpt2").config;
  config.hidden_size = 36;  // 4 heads of 9
  EXPECT_EQ(validate(config), std::nullopt);
}

}  // namespace
}  // namespace patrickstar::models
