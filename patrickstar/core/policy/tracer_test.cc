#include "patrickstar/core/policy/tracer.h"

#include <gtest/gtest.h>

#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

void grant(Tracer* tracer, std::vector<Access> accesses, MomentFacts facts) { tracer->granted(accesses, facts); }

TEST(Tracer, FactsBelongToTheMomentBefore) {
  Tracer tracer;
  tracer.added(PayloadId(0u), PayloadKind::kParam, 4096);
  tracer.added(PayloadId(2u), PayloadKind::kState, 8192);
  grant(&tracer, {reads(0)}, {.non_model = 99, .compute = 98});  // before the first moment: nobody's
  grant(&tracer, {writes(0), writes(2)}, {.non_model = 10, .compute = 1});
  EXPECT_EQ(tracer.moments(), 2u);
  const Trace trace = tracer.finish({.non_model = 20, .compute = 2});
  ASSERT_EQ(trace.payloads.size(), 3u);
  EXPECT_EQ(trace.payloads[0].bytes, 4096);
  EXPECT_EQ(trace.payloads[1].bytes, 0);  // a gap in the numbering
  EXPECT_EQ(trace.payloads[2].kind, PayloadKind::kState);
  ASSERT_EQ(trace.moments.size(), 2u);
  EXPECT_EQ(trace.moments[0].non_model, 10);
  EXPECT_EQ(trace.moments[0].compute, 1);
  EXPECT_EQ(trace.moments[1].non_model, 20);
  EXPECT_EQ(trace.moments[1].compute, 2);
  ASSERT_EQ(trace.at(1).size(), 2u);
  EXPECT_EQ(trace.at(1)[1].payload, PayloadId(2u));
  EXPECT_EQ(trace.at(1)[1].mode, AccessMode::kWrite);
}

TEST(Tracer, OfAStepThatDoesNotEndNothingIsKept) {
  Tracer tracer;
  tracer.added(PayloadId(0u), PayloadKind::kParam, 4096);
  const std::vector<Access> access = {reads(0)};
  for (std::size_t i = 0; i < Tracer::kMostMoments; ++i) tracer.granted(access, {});
  EXPECT_EQ(tracer.moments(), Tracer::kMostMoments);
  for (int i = 0; i < 3; ++i) tracer.granted(access, {});
  EXPECT_EQ(tracer.moments(), 0u);
  EXPECT_TRUE(tracer.finish({}).moments.empty());
  tracer.granted(access, {});  // the next step is one again
  EXPECT_EQ(tracer.finish({}).moments.size(), 1u);
}

TEST(Tracer, AMomentOfManyNamesEachPayloadOnceWithTheStrongestMode) {
  Tracer tracer;
  std::vector<Access> accesses;
  for (std::uint32_t i = 0; i < 40; ++i) tracer.added(PayloadId(i), PayloadKind::kParam, 4096);
  for (std::uint32_t i = 0; i < 40; ++i) accesses.push_back(reads(39 - i));
  for (std::uint32_t i = 0; i < 40; i += 4) accesses.push_back(i % 8 == 0 ? writes(i) : reads(i));
  grant(&tracer, accesses, {});
  const Trace trace = tracer.finish({});
  ASSERT_EQ(trace.at(0).size(), 40u);
  for (std::uint32_t i = 0; i < 40; ++i) {
    EXPECT_EQ(trace.at(0)[i].payload, PayloadId(39 - i));
    EXPECT_EQ(trace.at(0)[i].mode, (39 - i) % 8 == 0 ? AccessMode::kWrite : AccessMode::kRead);
  }
}

TEST(Tracer, EachStepBeginsAnewAndKnowsThePayloads) {
  Tracer tracer;
  tracer.added(PayloadId(0u), PayloadKind::kParam, 4096);
  grant(&tracer, {reads(0)}, {});
  EXPECT_EQ(tracer.finish({}).moments.size(), 1u);
  EXPECT_EQ(tracer.finish({}).moments.size(), 0u);
  grant(&tracer, {reads(0)}, {});
  tracer.restart();
  EXPECT_EQ(tracer.moments(), 0u);
  grant(&tracer, {writes(0)}, {.non_model = 7});  // a first moment again: its facts are nobody's
  const Trace trace = tracer.finish({.non_model = 3});
  ASSERT_EQ(trace.accesses.size(), 1u);
  EXPECT_EQ(trace.moments[0].first, 0u);
  EXPECT_EQ(trace.moments[0].non_model, 3);
  EXPECT_EQ(trace.payloads[0].bytes, 4096);
  tracer.removed(PayloadId(0u));
  EXPECT_EQ(tracer.finish({}).payloads[0].bytes, 0);
}

TEST(Tracer, APayloadNamedTwiceIsOneAccessWithTheStrongestMode) {
  std::vector<Access> once;
  normalise(std::vector<Access>{reads(3), creates(1), reads(1), writes(3), creates(2), creates(2), reads(4), reads(4)}, &once);
  ASSERT_EQ(once.size(), 4u);
  EXPECT_EQ(once[0].payload, PayloadId(3u));
  EXPECT_EQ(once[0].mode, AccessMode::kWrite);
  EXPECT_EQ(once[1].mode, AccessMode::kWrite);  // who reads it needs what it held
  EXPECT_EQ(once[2].mode, AccessMode::kCreate);
  EXPECT_EQ(once[3].mode, AccessMode::kRead);
}

}  // namespace
}  // namespace patrickstar
