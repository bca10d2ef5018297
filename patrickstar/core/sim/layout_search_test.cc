#include "patrickstar/core/sim/layout_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "patrickstar/core/sim/synthetic.h"
#include "patrickstar/core/sim/testing/steps_by_tensor.h"

namespace patrickstar {
namespace {

using testing::HasSubstr;

constexpr std::size_t kLayers = 96;
constexpr Elems kElems = Elems{16} << 10;

StepByTensor scattered(Elems elems = kElems) {
  const auto read = step_by_tensor(scattered_step(kLayers, elems, 400'000));
  EXPECT_TRUE(read.ok()) << read.status().message();
  return read.ok() ? read.value() : StepByTensor();
}
constexpr Bytes kModelData = 14 * kElems * Bytes{2 * kLayers};

const LayoutFigures* find(const LayoutSearch& search, PlacementOrder order, Elems chunk_elems) {
  const auto found = std::find_if(search.figures.begin(), search.figures.end(), [&](const LayoutFigures& f) {
    return f.candidate == LayoutCandidate{order, {.chunk_elems = chunk_elems}};
  });
  return found == search.figures.end() ? nullptr : &*found;
}

TEST(LayoutSearch, FirstUseIsChosenWhereNeighboursInUseAreFarApartInRegistration) {
  const StepByTensor step = scattered();
  const auto result = search_layouts(step, {.host_budget = kModelData / 2, .disk = {.bytes_per_second = 1e9}});
  ASSERT_TRUE(result.ok()) << result.status().message();
  const LayoutSearch& search = result.value();
  EXPECT_EQ(search.figures[0].candidate, LayoutCandidate{});
  EXPECT_EQ(search.figures[search.chosen].candidate.order, PlacementOrder::kFirstUse) << search.reason;
  EXPECT_THAT(search.reason, HasSubstr("first use order"));
  EXPECT_THAT(search.reason, HasSubstr("% faster in replay than registration order, chunks of 4 Mi elements, tiles of 1 Mi"));
  for (const LayoutFigures& figures : search.figures) {
    if (figures.status.ok()) {
      EXPECT_GE(figures.time, figures.limit) << candidate_text(figures.candidate);
    }
    EXPECT_LE(figures.unused, figures.fetched);
  }
}

TEST(LayoutSearch, WhatIsReadWithAChunkAndNotUsedIsCounted) {
  // Little room: even values leave. Two layers to the smallest chunk; in the order of use all of it is used whenever it is read.
  const auto result = search_layouts(scattered(), {.host_budget = kModelData / 14, .disk = {.bytes_per_second = 1e9}});
  ASSERT_TRUE(result.ok()) << result.status().message();
  const LayoutFigures* by_use = find(result.value(), PlacementOrder::kFirstUse, 4 * kElems);
  const LayoutFigures* as_registered = find(result.value(), PlacementOrder::kRegistration, 4 * kElems);
  ASSERT_NE(by_use, nullptr);
  ASSERT_NE(as_registered, nullptr);
  EXPECT_EQ(by_use->chunks, kLayers / 2);
  EXPECT_LT(by_use->time, as_registered->time);
  EXPECT_GT(by_use->fetched, 0);
  EXPECT_EQ(by_use->unused, 0);
  EXPECT_GT(as_registered->fetched, by_use->fetched);
  EXPECT_GT(as_registered->unused, as_registered->fetched / 4);
}

TEST(LayoutSearch, ALayoutWithTooMuchPaddingIsNotChosen) {
  const StepByTensor step = scattered(kElems + 128);  // three tensors fit into 64 Ki elements, which is no whole number of pages
  const auto more_than_default = [&](double most_padding) {
    const auto result =
        search_layouts(step, {.host_budget = kModelData / 2, .disk = {.bytes_per_second = 1e9}, .most_padding = most_padding});
    EXPECT_TRUE(result.ok()) << result.status().message();
    if (!result.ok()) return Bytes{0};
    return result.value().figures[result.value().chosen].padding - result.value().figures[0].padding;
  };
  EXPECT_GT(more_than_default(0.05), 0);
  EXPECT_LE(more_than_default(0), 0) << "as much as the default's may be";
}

TEST(LayoutSearch, TheSameAnswerEachTime) {
  const StepByTensor step = scattered();
  const LayoutSearchOptions options{.host_budget = kModelData / 2, .disk = {.bytes_per_second = 1e9}};
  const auto one = search_layouts(step, options);
  const auto two = search_layouts(step, options);
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(one.value().reason, two.value().reason);
  ASSERT_EQ(one.value().figures.size(), two.value().figures.size());
  for (std::size_t i = 0; i < one.value().figures.size(); ++i) {
    EXPECT_EQ(one.value().figures[i].time, two.value().figures[i].time);
    EXPECT_EQ(one.value().figures[i].traffic, two.value().figures[i].traffic);
  }
}

TEST(LayoutSearch, WhereEverythingFitsTheDefaultStays) {
  const auto result = search_layouts(scattered(), {.host_budget = 2 * kModelData, .disk = {.bytes_per_second = 1e9}});
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result.value().chosen, 0u);
  EXPECT_EQ(result.value().reason,
            "registration order, chunks of 4 Mi elements, tiles of 1 Mi stays: no other is faster in replay");
}

TEST(LayoutSearch, AGainBelowTheLeastChangesNothing) {
  const auto result =
      search_layouts(scattered(), {.host_budget = kModelData / 2, .disk = {.bytes_per_second = 1e9}, .least_gain = 0.99});
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result.value().chosen, 0u);
  EXPECT_THAT(result.value().reason, HasSubstr("tiles of 1 Mi stays: first use order"));
  EXPECT_THAT(result.value().reason, HasSubstr("% in replay, less than 99.0 %"));
}

TEST(LayoutSearch, WhatDoesNotFitIsSaidAndNotChosen) {
  // All 3 Mi elements are in the default's one chunk, 6 MiB: it does not fit.
  const auto result = search_layouts(scattered(), {.host_budget = 5 * kMiB, .disk = {.bytes_per_second = 1e9}});
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_FALSE(result.value().figures[0].status.ok());
  EXPECT_NE(result.value().chosen, 0u);
  EXPECT_THAT(result.value().reason, HasSubstr("the default cannot be replayed ([layout] host lacks"));
  const auto hopeless = search_layouts(scattered(), {.host_budget = 64 * kKiB, .disk = {.bytes_per_second = 1e9}});
  EXPECT_EQ(hopeless.status().code(), StatusCode::kOutOfRoom);
}

TEST(LayoutSearch, PaddingIsWhatBelongsToNoTensor) {
  for (const bool fp32 : {false, true}) {
    const ModelScheme scheme = fp32 ? ModelScheme{DType::kFloat32, GradientPlacement::kOwnChunks} : ModelScheme{};
    StepWriter step(scheme, UpdateTiming::kDeferred, 1024);
    Elems elems = 0;
    for (Elems i = 0; i < 40; ++i) {
      const Elems one = (Elems{64} << 10) - (i % 2) * 1000;  // every other one is followed by a gap of 104 elements
      step.tensor({std::to_string(i), one});
      elems += one;
    }
    step.tensor({"frozen", 2048, Training::kFrozen});
    step.reads({40});
    for (std::size_t t = 0; t < 40; ++t) {
      for (std::size_t i = 0; i < step.tiles(t); ++i) step.updates(t, i, 1000);
      step.reads({t}, 1000);
      step.arrives(t);
    }
    const auto read = step_by_tensor(step.trace());
    ASSERT_TRUE(read.ok()) << read.status().message();
    const auto result = search_layouts(read.value(), {.host_budget = 64 * kMiB, .disk = {.bytes_per_second = 1e9}});
    ASSERT_TRUE(result.ok()) << result.status().message();
    const Bytes element = fp32 ? 16 : 14;
    const Bytes used = element * elems + (fp32 ? 4 : 2) * 2048;
    for (const LayoutFigures& figures : result.value().figures) EXPECT_EQ(figures.payloads - figures.padding, used);
    const LayoutFigures& standard = result.value().figures[0];
    EXPECT_GE(standard.padding, element * 19 * 104);  // nothing follows the last
    EXPECT_LE(standard.padding, element * 19 * 104 + 6 * 4096);
  }
}

TEST(LayoutSearch, CandidatesAreWrittenAsPeopleReadThem) {
  EXPECT_EQ(candidate_text({PlacementOrder::kFirstUse, {.chunk_elems = 65536, .tile_elems = 1000}}),
            "first use order, chunks of 64 Ki elements, tiles of 1000");
}

}  // namespace
}  // namespace patrickstar
