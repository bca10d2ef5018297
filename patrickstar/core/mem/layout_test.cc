#include "patrickstar/core/mem/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "patrickstar/core/mem/tier.h"
#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

// Everything that must hold of any layout.
void check(const Layout& layout) {
  std::size_t seen = 0;
  for (std::size_t c = 0; c < layout.chunks(); ++c) {
    const ChunkLayout& chunk = layout.chunk(ChunkId(c));
    ASSERT_FALSE(chunk.tensors.empty());
    ASSERT_TRUE(chunk.elems <= layout.options().chunk_elems || chunk.tensors.size() == 1);
    Elems end = 0;
    for (const TensorId id : chunk.tensors) {
      const TensorPlace& place = layout.place(id);
      ASSERT_EQ(place.chunk, ChunkId(c));
      ASSERT_EQ(place.elems, layout.tensor(id).elems);
      ASSERT_EQ(layout.tensor(id).training, chunk.training);
      ASSERT_EQ(place.offset, round_up(end, Layout::kOffsetAlignment));  // as early as alignment lets it
      for (const DType dtype : {DType::kBFloat16, DType::kFloat32}) ASSERT_EQ(place.offset * dtype_bytes(dtype) % 256, 0);
      end = place.offset + place.elems;
      ++seen;
    }
    ASSERT_EQ(end, chunk.elems);
    Elems covered = 0;
    for (const TileRange& tile : layout.tiles(ChunkId(c))) {
      ASSERT_EQ(tile.chunk, ChunkId(c));
      ASSERT_EQ(tile.begin, covered);
      ASSERT_GT(tile.elems, 0);
      ASSERT_LE(tile.elems, layout.options().tile_elems);
      covered += tile.elems;
    }
    ASSERT_EQ(covered, chunk.training == Training::kFrozen ? 0 : chunk.elems);
  }
  ASSERT_EQ(seen, layout.tensors());
}

void add_gpt2(Layout& layout, Elems width, int blocks) {
  layout.add({.name = "wte", .elems = 50257 * width});
  layout.add({.name = "wpe", .elems = 1024 * width});
  for (int i = 0; i < blocks; ++i) {
    for (const Elems elems : {width, width, 3 * width * width, 3 * width, width * width, width, width, width, 4 * width * width,
                              4 * width, 4 * width * width, width}) {
      layout.add({.name = "block", .elems = elems});
    }
  }
  for (int i = 0; i < 2; ++i) layout.add({.name = "ln_f", .elems = width});
}

class LayoutOfGpt2 : public testing::TestWithParam<std::tuple<Elems, int>> {};

TEST_P(LayoutOfGpt2, PaddingStaysUnderOnePercent) {
  const auto [width, blocks] = GetParam();
  for (const Elems chunk_elems : {Elems{64} << 10, Elems{1} << 20, Elems{4} << 20}) {
    Layout layout({.chunk_elems = chunk_elems});
    add_gpt2(layout, width, blocks);
    check(layout);
    Bytes bare = 0;
    Bytes padded = 0;
    for (std::size_t t = 0; t < layout.tensors(); ++t) bare += 14 * layout.tensor(TensorId(t)).elems;  // bf16 + 3 fp32 states
    for (std::size_t c = 0; c < layout.chunks(); ++c) {
      padded += Layout::payload_bytes(layout.chunk(ChunkId(c)).elems, DType::kBFloat16);
      for (const TileRange& tile : layout.tiles(ChunkId(c))) padded += Layout::tile_bytes(tile, 3);
    }
    EXPECT_GE(padded, bare);
    EXPECT_LT(static_cast<double>(padded), 1.01 * static_cast<double>(bare)) << "chunk_elems " << chunk_elems;
  }
}

INSTANTIATE_TEST_SUITE_P(Presets, LayoutOfGpt2, testing::Values(std::tuple{768, 12}, std::tuple{1024, 24}, std::tuple{1600, 48}));

TEST(Layout, ATensorNeverStraddlesTwoChunks) {
  Layout layout({.chunk_elems = 1000, .tile_elems = 256});
  const TensorId a = layout.add({.name = "a", .elems = 700});
  const TensorId b = layout.add({.name = "b", .elems = 200});  // at 768: 968
  const TensorId c = layout.add({.name = "c", .elems = 10});   // would end at 1034
  EXPECT_EQ(layout.place(a).chunk, layout.place(b).chunk);
  EXPECT_EQ(layout.place(b).offset, 768);
  EXPECT_NE(layout.place(c).chunk, layout.place(a).chunk);
  EXPECT_EQ(layout.chunk(layout.place(a).chunk).elems, 968);
  check(layout);
}

TEST(Layout, ATensorThatFillsAChunkExactlyFits) {
  Layout layout({.chunk_elems = 1024, .tile_elems = 256});
  layout.add({.name = "a", .elems = 512});
  layout.add({.name = "b", .elems = 512});
  EXPECT_EQ(layout.chunks(), 1u);
  check(layout);
}

TEST(Layout, ATensorLargerThanAChunkGetsOneOfItsOwnSizeAndOrdinaryTiles) {
  Layout layout({.chunk_elems = 1000, .tile_elems = 256});
  layout.add({.name = "small", .elems = 10});
  const TensorId large = layout.add({.name = "large", .elems = 5000});
  layout.add({.name = "next", .elems = 10});
  EXPECT_EQ(layout.chunks(), 3u);
  EXPECT_EQ(layout.place(large).offset, 0);
  EXPECT_EQ(layout.chunk(layout.place(large).chunk).elems, 5000);
  EXPECT_EQ(layout.tiles(layout.place(large).chunk).size(), 20u);  // 19 x 256 + 136
  check(layout);
}

TEST(Layout, FrozenTensorsFillChunksOfTheirOwnWithoutTiles) {
  Layout layout({.chunk_elems = 1024, .tile_elems = 256});
  const TensorId a = layout.add({.name = "a", .elems = 128});
  const TensorId f = layout.add({.name = "f", .elems = 128, .training = Training::kFrozen});
  const TensorId b = layout.add({.name = "b", .elems = 128});
  const TensorId g = layout.add({.name = "g", .elems = 128, .training = Training::kFrozen});
  EXPECT_EQ(layout.place(a).chunk, layout.place(b).chunk);
  EXPECT_EQ(layout.place(f).chunk, layout.place(g).chunk);
  EXPECT_TRUE(layout.tiles(layout.place(f).chunk).empty());
  check(layout);
}

TEST(Layout, AnOrderOfPlacesIsNotTheOrderOfIds) {
  Layout layout({.chunk_elems = 300, .tile_elems = 128});
  const std::size_t order[] = {2, 0, 1};
  const std::vector<TensorId> ids = layout.add({{"a", 100}, {"b", 200}, {"c", 128}}, order);
  ASSERT_EQ(ids, (std::vector<TensorId>{TensorId(0u), TensorId(1u), TensorId(2u)}));
  EXPECT_EQ(layout.tensor(ids[1]).name, "b");
  EXPECT_EQ(layout.place(ids[2]).offset, 0);    // placed first ...
  EXPECT_EQ(layout.place(ids[0]).offset, 128);  // ... then a, in the same chunk
  EXPECT_EQ(layout.chunk(ChunkId(0u)).tensors, (std::vector<TensorId>{ids[2], ids[0]}));
  EXPECT_EQ(layout.place(ids[1]).chunk, ChunkId(1u));
  check(layout);
}

TEST(Layout, PlacesOfAnOrderAreThoseOfTensorsThatComeInIt) {
  const std::uint32_t seed = test_seed(6);
  SCOPED_TRACE("PATRICKSTAR_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    std::vector<TensorSpec> specs;
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < 30; ++i) {
      specs.push_back({std::to_string(i), 1 + static_cast<Elems>(random() % 2000),
                       random() % 4 == 0 ? Training::kFrozen : Training::kTrained});
      order.push_back(i);
    }
    std::shuffle(order.begin(), order.end(), random);
    Layout ordered({.chunk_elems = 4000, .tile_elems = 512});
    const auto ids = ordered.add(specs, order);
    Layout as_they_come({.chunk_elems = 4000, .tile_elems = 512});
    for (const std::size_t i : order) {
      const TensorPlace& expected = as_they_come.place(as_they_come.add(specs[i]));
      EXPECT_EQ(ordered.place(ids[i]).chunk, expected.chunk);
      EXPECT_EQ(ordered.place(ids[i]).offset, expected.offset);
    }
    check(ordered);
  }
}

TEST(Layout, TensorsOfAGroupWerePlacedBetweenTwoCloses) {
  Layout layout({.chunk_elems = 1024, .tile_elems = 256});
  const TensorId a = layout.add({.name = "a", .elems = 100});
  layout.close();
  layout.close();  // nothing was open
  const TensorId b = layout.add({.name = "b", .elems = 100, .training = Training::kFrozen});
  const TensorId c = layout.add({.name = "c", .elems = 2000});
  layout.close();
  const TensorId d = layout.add({.name = "d", .elems = 100});
  EXPECT_EQ(layout.place(a).group, 0u);
  EXPECT_EQ(layout.place(b).group, 1u);
  EXPECT_EQ(layout.place(c).group, 1u);
  EXPECT_EQ(layout.place(d).group, 2u);
}

TEST(Layout, PartsAndSegmentsAreTheFormulas) {
  Layout layout({.chunk_elems = 1000, .tile_elems = 256});
  const TensorId a = layout.add({.name = "a", .elems = 300});  // the next begins at 384
  const TensorId b = layout.add({.name = "b", .elems = 200});  // up to 584
  const ChunkId chunk = layout.place(a).chunk;
  const auto parts = layout.parts(chunk, {.dtype = DType::kFloat32, .gradients = GradientPlacement::kOwnChunks});
  ASSERT_EQ(parts.size(), 5u);
  EXPECT_EQ(parts[0].kind, PayloadKind::kParam);
  EXPECT_EQ(parts[1].kind, PayloadKind::kGrad);
  EXPECT_EQ(parts[0].bytes, Layout::payload_bytes(584, DType::kFloat32));
  EXPECT_EQ(parts[4].bytes, Layout::tile_bytes({.elems = 72}, 2));
  EXPECT_EQ(layout.parts(chunk, {}).size(), 4u);                  // gradients in the parameter's place
  const auto segments = layout.segments(layout.tiles(chunk)[1]);  // 256 to 512
  ASSERT_EQ(segments.size(), 2u);
  EXPECT_EQ(segments[0].tensor, a);
  EXPECT_EQ(segments[0].in_tensor, 256);
  EXPECT_EQ(segments[0].elems, 44);
  EXPECT_EQ(segments[1].tensor, b);
  EXPECT_EQ(segments[1].in_tile, 128);
  EXPECT_EQ(segments[1].elems, 128);
  EXPECT_EQ(layout.tiles_of(a).first, 0u);
  EXPECT_EQ(layout.tiles_of(a).count, 2u);
  EXPECT_EQ(layout.tiles_of(b).first, 1u);
  EXPECT_EQ(layout.tiles_of(b).count, 2u);
  const TensorId frozen = layout.add({.name = "f", .elems = 10, .training = Training::kFrozen});
  EXPECT_EQ(layout.parts(layout.place(frozen).chunk, {.gradients = GradientPlacement::kOwnChunks}).size(), 1u);
}

TEST(Layout, AClosedChunkNeverChanges) {
  Layout layout({.chunk_elems = 1024, .tile_elems = 256});
  const TensorId a = layout.add({.name = "a", .elems = 100});
  const TensorId f = layout.add({.name = "f", .elems = 100, .training = Training::kFrozen});
  layout.close();
  const TensorId b = layout.add({.name = "b", .elems = 100});
  const TensorId g = layout.add({.name = "g", .elems = 100, .training = Training::kFrozen});
  EXPECT_NE(layout.place(a).chunk, layout.place(b).chunk);
  EXPECT_NE(layout.place(f).chunk, layout.place(g).chunk);
  EXPECT_EQ(layout.chunk(layout.place(a).chunk).elems, 100);
  check(layout);
}

TEST(Layout, SizesAreTheFormulas) {
  EXPECT_EQ(Layout::payload_bytes(1, DType::kBFloat16), 4096);
  EXPECT_EQ(Layout::payload_bytes(2048, DType::kBFloat16), 4096);
  EXPECT_EQ(Layout::payload_bytes(2049, DType::kBFloat16), 8192);
  EXPECT_EQ(Layout::payload_bytes(Elems{4} << 20, DType::kFloat32), 16 * kMiB);
  const TileRange tile{.elems = 100};  // 400 bytes a state, 512 with alignment
  EXPECT_EQ(Layout::tile_state_offset(tile, 1), 512);
  EXPECT_EQ(Layout::tile_state_offset(tile, 2), 1024);
  EXPECT_EQ(Layout::tile_bytes(tile, 3), 4096);
  EXPECT_EQ(Layout::tile_bytes({.elems = Elems{1} << 20}, 3), 12 * kMiB);
}

TEST(Layout, HoldsForRandomTensors) {
  const std::uint32_t seed = test_seed(5);
  SCOPED_TRACE("PATRICKSTAR_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 50; ++round) {
    Layout layout(
        {.chunk_elems = 1 + static_cast<Elems>(random() % 5000), .tile_elems = 128 * (1 + static_cast<Elems>(random() % 8))});
    for (int i = 0; i < 60; ++i) {
      layout.add({.elems = 1 + static_cast<Elems>(random() % 3000),
                  .training = random() % 3 == 0 ? Training::kFrozen : Training::kTrained});
      if (random() % 10 == 0) layout.close();
    }
    check(layout);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace patrickstar
