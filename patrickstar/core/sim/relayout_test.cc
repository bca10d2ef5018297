#include "patrickstar/core/sim/relayout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "patrickstar/core/sim/testing/steps_by_tensor.h"

namespace patrickstar {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// "w0 w1": a moment's accesses.
std::vector<std::string> text_of(const Trace& trace) {
  std::vector<std::string> moments;
  for (std::size_t m = 0; m < trace.moments.size(); ++m) {
    std::string text;
    for (const Access& access : trace.at(m))
      text += (text.empty() ? "" : " ") + std::string(1, "rwc"[static_cast<std::size_t>(access.mode)]) +
              std::to_string(access.payload.value);
    moments.push_back(text);
  }
  return moments;
}

constexpr ModelScheme kInPlace{};
constexpr ModelScheme kOwn{DType::kFloat32, GradientPlacement::kOwnChunks};

// Three tensors: a and b share a chunk of 2,100 elements and a tile of 2,048; c has a chunk of its own and, there, two tiles.
struct ThreeTensors : StepWriter {
  explicit ThreeTensors(UpdateTiming timing, ModelScheme scheme = kInPlace) : StepWriter(scheme, timing, 1024) {
    a = tensor({"a", 1000});
    b = tensor({"b", 1000});
    c = tensor({"c", 3000});  // tiles of 1024, 1024, 952
  }
  void updates_all(std::size_t t) {
    const Elems elems[] = {1024, 1024, 952};
    for (std::size_t i = 0; i < tiles(t); ++i) updates(t, i, 2 * (t == c ? elems[i] : 1000));
  }
  std::size_t a = 0, b = 0, c = 0;
};
constexpr LayoutOptions kShared{.chunk_elems = 2100, .tile_elems = 2048};

RelaidStep relaid(const Trace& trace, const LayoutOptions& options, PlacementOrder order = PlacementOrder::kRegistration) {
  const auto step = step_by_tensor(trace);
  EXPECT_TRUE(step.ok()) << step.status().message();
  if (!step.ok()) return {};
  auto result = relay(step.value(), make_layout(step.value().model, placement(step.value(), order), options));
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? std::move(result).value() : RelaidStep();
}

ThreeTensors deferred_step() {
  ThreeTensors step(UpdateTiming::kDeferred);
  step.updates(step.a, 0, 2000, 70);
  step.reads({step.a}, 10, 100);
  step.updates_all(step.b);
  step.reads({step.b}, 20, 200);
  step.updates(step.c, 0, 2048);
  step.updates(step.c, 1, 2048);
  step.updates(step.c, 2, 1904 + 500, 250);  // half a microsecond of other work follows
  step.reads({step.c}, 30, 300);
  step.reads({step.c}, 60, 400);
  step.arrives(step.c, 1, 50);
  step.reads({step.a, step.b}, 40, 60);
  step.arrives(step.b);
  step.arrives(step.a, 2, 7);
  return step;
}

TEST(Relayout, DeferredUpdatesOfATileRunOnceBeforeTheFirstOfItsTensorsIsUsed) {
  ThreeTensors step = deferred_step();
  const RelaidStep under = relaid(step.trace(), kShared);
  ASSERT_EQ(under.trace.payloads.size(), 5u);  // value and tile of a and b; value and two tiles of c
  EXPECT_EQ(under.trace.payloads[0].bytes, Layout::payload_bytes(2024, DType::kBFloat16));
  EXPECT_EQ(under.trace.payloads[1].bytes, Layout::tile_bytes({.elems = 2024}, 3));
  EXPECT_EQ(under.trace.payloads[4].bytes, Layout::tile_bytes({.elems = 952}, 3));
  EXPECT_THAT(text_of(under.trace), ElementsAre("w0 w1", "r0", "r0", "w2 w3", "w2 w4", "r2", "r2", "c2", "r0", "w0", "w0"));
  EXPECT_THAT(under.used[0], ElementsAre(TensorId(0u), TensorId(1u)));
  EXPECT_THAT(under.used[2], ElementsAre(TensorId(1u)));
  EXPECT_THAT(under.used[8], ElementsAre(TensorId(0u), TensorId(1u)));
  EXPECT_EQ(under.trace.model.tensors[1].param, PayloadId(0u));
  EXPECT_EQ(under.trace.model.tensors[2].param, PayloadId(2u));
}

TEST(Relayout, UpdatesTakeTheirElementsTimeAndOtherWorkStays) {
  ThreeTensors step = deferred_step();
  const RelaidStep under = relaid(step.trace(), kShared);
  EXPECT_EQ(under.trace.moments[0].compute, 4000);      // 2,000 elements
  EXPECT_EQ(under.trace.moments[3].compute, 4096);      // 2,048
  EXPECT_EQ(under.trace.moments[2].compute, 20 + 500);  // what followed the updates of c stays between b and c
  EXPECT_EQ(under.trace.moments[2].non_model, 250);
  EXPECT_EQ(under.trace.moments[0].non_model, 70);  // of what was recorded before a is used: its own update
  EXPECT_EQ(under.trace.moments[6].non_model, 400);
  EXPECT_EQ(under.trace.compute(), step.trace().compute());
}

TEST(Relayout, OverlappedUpdatesWaitForTheLastGradientOfTheTileAndEveryFourthForForward) {
  ThreeTensors step(UpdateTiming::kOverlapped);  // tiles: a 0; b 1; c 2, 3, 4: the second of c waits
  step.reads({step.a});
  step.reads({step.b});
  step.updates(step.c, 1);
  step.reads({step.c});
  step.reads({step.c});
  step.arrives(step.c);
  step.updates(step.c, 0);
  step.updates(step.c, 2);
  step.reads({step.a, step.b});
  step.arrives(step.b);
  step.updates(step.b, 0);
  step.arrives(step.a);
  step.updates(step.a, 0);
  // a and b share tile 0, c has 1 and 2: none waits for forward.
  EXPECT_THAT(text_of(relaid(step.trace(), kShared).trace),
              ElementsAre("r0", "r0", "r2", "r2", "c2", "w2 w3", "w2 w4", "r0", "w0", "w0", "w0 w1"));
  // a and b have tiles 0 and 1 of one chunk (payloads 1 and 2), c has 2, 3 and 4 (4 to 6).
  EXPECT_THAT(text_of(relaid(step.trace(), {.chunk_elems = 2100, .tile_elems = 1024}).trace),
              ElementsAre("r0", "r0", "w3 w5", "r3", "r3", "c3", "w3 w4", "w3 w6", "r0", "w0", "w0 w2", "w0", "w0 w1"));
}

TEST(Relayout, GradientChunksAreCreatedByTheFirstGradientThatComes) {
  ThreeTensors step(UpdateTiming::kAtStep, kOwn);
  for (const std::size_t t : {step.a, step.b, step.c}) step.reads({t});
  for (const std::size_t t : {step.c, step.b, step.a}) step.arrives(t);
  for (const std::size_t t : {step.a, step.b, step.c}) step.updates_all(t);
  // value 0, gradient 1, tile 2 of a and b; value 3, gradient 4, tiles 5 and 6 of c
  EXPECT_THAT(text_of(relaid(step.trace(), kShared).trace),
              ElementsAre("r0", "r0", "r3", "c4", "c1", "w1", "w0 w2 r1", "w3 w5 r4", "w3 w6 r4"));
}

TEST(Relayout, UnderTheLayoutOfTheRecordingItIsTheRecording) {
  ThreeTensors step = deferred_step();
  const RelaidStep same = relaid(step.trace(), {.chunk_elems = 1, .tile_elems = 1024});
  EXPECT_EQ(text_of(same.trace), text_of(step.trace()));
  ASSERT_EQ(same.trace.payloads.size(), step.trace().payloads.size());
  for (std::size_t p = 0; p < same.trace.payloads.size(); ++p)
    EXPECT_EQ(same.trace.payloads[p].bytes, step.trace().payloads[p].bytes);
}

TEST(Relayout, WhatIsNeverUpdatedIsNeverDue) {
  ThreeTensors step(UpdateTiming::kOverlapped);  // b is in no group of the optimizer
  step.reads({step.a, step.b});
  step.arrives(step.b);
  step.arrives(step.a);
  step.updates(step.a, 0);
  const auto read = step_by_tensor(step.trace());
  ASSERT_TRUE(read.ok());
  // Alone in its tile a is updated at its arrival; with b beside it, which is never due, before its next use.
  const auto alone = relay(read.value(), make_layout(read.value().model, placement(read.value(), PlacementOrder::kRegistration),
                                                     {.chunk_elems = 2100, .tile_elems = 1024}));
  ASSERT_TRUE(alone.ok()) << alone.status().message();
  EXPECT_THAT(text_of(alone.value().trace), ElementsAre("r0", "w0", "w0", "w0 w1"));
  EXPECT_THAT(text_of(relaid(step.trace(), kShared).trace), ElementsAre("w0 w1", "r0", "w0", "w0"));
}

TEST(Placement, FirstUseOrdersWithinGroupsOnly) {
  StepWriter step(kInPlace, UpdateTiming::kDeferred, 1024);
  const std::size_t embedding = step.tensor({"embedding", 10}, 0);
  const std::size_t bias = step.tensor({"bias", 10}, 1);
  const std::size_t unused = step.tensor({"unused", 10}, 1);
  const std::size_t weight = step.tensor({"weight", 3000}, 1);
  const std::size_t norm = step.tensor({"norm", 10}, 2);
  step.updates(bias, 0);  // does not count: it comes when its chunk is used
  step.reads({norm});
  step.reads({weight});
  step.reads({bias, embedding});
  const auto read = step_by_tensor(step.trace());
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_THAT(placement(read.value(), PlacementOrder::kRegistration),
              ElementsAre(TensorId(embedding), TensorId(bias), TensorId(unused), TensorId(weight), TensorId(norm)));
  const auto first_use = placement(read.value(), PlacementOrder::kFirstUse);
  EXPECT_THAT(first_use, ElementsAre(TensorId(embedding), TensorId(weight), TensorId(bias), TensorId(unused), TensorId(norm)));
  const Layout layout = make_layout(read.value().model, first_use, {});
  EXPECT_EQ(layout.chunks(), 3u) << "a chunk never holds tensors of two groups";
  EXPECT_EQ(layout.tensor(TensorId(bias)).name, "bias");
  EXPECT_EQ(layout.place(TensorId(weight)).offset, 0);
  EXPECT_EQ(layout.place(TensorId(bias)).offset, 3072);
}

std::string refusal(const Trace& trace) {
  const auto step = step_by_tensor(trace);
  return step.ok() ? "" : step.status().message();
}

TEST(Relayout, WhatTheTraceDoesNotSayIsRefused) {
  ThreeTensors step = deferred_step();
  Trace trace = step.trace();
  trace.model = {};
  EXPECT_THAT(refusal(trace), HasSubstr("does not say its tensors"));
  trace = step.trace();
  trace.model.tensors[1].param = step.value(step.a);
  EXPECT_THAT(refusal(trace), HasSubstr("b has no chunk of its own"));
  trace = step.trace();
  trace.model.tile_elems = 2048;
  EXPECT_THAT(refusal(trace), HasSubstr("c has no chunk of its own"));
  trace = step.trace();
  trace.model.tile_elems = 100;
  EXPECT_THAT(refusal(trace), HasSubstr("tiles of 100 elements are no multiple of 128"));
  trace = step.trace();
  trace.model.tensors[2].spec.elems = Elems{1} << 41;
  EXPECT_THAT(refusal(trace), HasSubstr("more than 1099511627776 elements"));
  trace.model.tensors[2].spec.elems = Elems{1} << 39;
  EXPECT_THAT(refusal(trace), HasSubstr("c has more tiles than the trace has payloads"));
  trace = step.trace();
  trace.model.tensors.pop_back();
  EXPECT_THAT(refusal(trace), HasSubstr("payload 4 is no tensor's"));
  trace = step.trace();
  trace.model.tensors[0].group = 1;
  EXPECT_THAT(refusal(trace), HasSubstr("order of their groups"));
  ThreeTensors written = deferred_step();
  written.moment({{written.tile(written.c, 1), AccessMode::kWrite}});
  EXPECT_THAT(refusal(written.trace()), HasSubstr("moment 13 uses optimizer state outside an update: was c"));
  ThreeTensors mixed = deferred_step();
  mixed.moment({{mixed.value(mixed.a), AccessMode::kWrite}, {mixed.tile(mixed.b, 0), AccessMode::kWrite}});
  EXPECT_THAT(refusal(mixed.trace()), HasSubstr("outside an update"));
  ThreeTensors created = deferred_step();
  created.moment({{created.value(created.a), AccessMode::kCreate}, {created.value(created.b), AccessMode::kRead}});
  EXPECT_THAT(refusal(created.trace()), HasSubstr("creates what is no gradient"));
}

TEST(Relayout, UpdatesThatNoScheduleExplainsAreRefused) {
  ThreeTensors step = deferred_step();
  step.updates_all(step.a);  // a second time in the step
  const auto read = step_by_tensor(step.trace());
  ASSERT_TRUE(read.ok());
  const auto result =
      relay(read.value(), make_layout(read.value().model, placement(read.value(), PlacementOrder::kRegistration), kShared));
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.status().message(), HasSubstr("6000 elements are updated, by the schedule 5000"));
}

}  // namespace
}  // namespace patrickstar
