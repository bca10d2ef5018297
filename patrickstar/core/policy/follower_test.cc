#include "patrickstar/core/policy/follower.h"

#include <gtest/gtest.h>

#include "patrickstar/core/testing/traces.h"

namespace patrickstar {
namespace {

using Match = Follower::Match;

// Four layers forward and backward, then the update of each layer's tile (4 to 7): 12 moments.
Trace layers() {
  return trace_of(std::vector<Bytes>(8, 4096), {{{reads(0)}},
                                                {{reads(1)}},
                                                {{reads(2)}},
                                                {{reads(3)}},
                                                {{writes(3)}},
                                                {{writes(2)}},
                                                {{writes(1)}},
                                                {{writes(0)}},
                                                {{writes(0), writes(4)}},
                                                {{writes(1), writes(5)}},
                                                {{writes(2), writes(6)}},
                                                {{writes(3), writes(7)}}});
}

Match grant(Follower* follower, std::vector<Access> accesses) { return follower->granted(accesses); }
// The moments [from, to) of the trace, all as expected.
void run(Follower* follower, std::size_t from, std::size_t to) {
  const Trace trace = layers();
  for (std::size_t m = from; m < to; ++m) ASSERT_EQ(follower->granted(trace.at(m)), Match::kExpected) << m;
}

TEST(Follower, ExpectedMomentsGoRoundTheEnd) {
  Follower follower(layers());
  EXPECT_EQ(follower.position(), -1);
  run(&follower, 0, 12);
  EXPECT_EQ(follower.position(), 11);
  run(&follower, 0, 3);
  EXPECT_EQ(follower.position(), 14);
  EXPECT_EQ(follower.moment(), 2u);
  EXPECT_EQ(follower.deviations(), 0);
}

// What is asked for together counts, not in which order, how often or whether it is written.
TEST(Follower, AMomentIsItsSetOfPayloads) {
  Follower follower(layers());
  run(&follower, 0, 8);
  EXPECT_EQ(grant(&follower, {reads(4), writes(0), reads(0)}), Match::kExpected);
  EXPECT_EQ(grant(&follower, {writes(5)}), Match::kUnknown);  // a part is not the whole
  EXPECT_EQ(grant(&follower, {writes(1), writes(5), reads(0)}), Match::kUnknown);
  EXPECT_EQ(grant(&follower, {writes(1), writes(5)}), Match::kExpected);
  EXPECT_EQ(follower.deviations(), 2);
}

TEST(Follower, OneMomentTooManyLeavesThePositionWhereItIs) {
  Follower follower(layers());
  run(&follower, 0, 2);
  EXPECT_EQ(grant(&follower, {reads(7)}), Match::kUnknown);
  EXPECT_EQ(follower.position(), 1);
  run(&follower, 2, 5);
  EXPECT_EQ(grant(&follower, {reads(0)}), Match::kUnknown);  // a later one, too soon, and then on as before
  run(&follower, 5, 12);
  EXPECT_EQ(follower.position(), 11);
  EXPECT_EQ(follower.deviations(), 2);
}

TEST(Follower, ItJumpsForwardOverADroppedLayerAtTheSecondMomentAfterIt) {
  Follower follower(layers());
  run(&follower, 0, 1);
  EXPECT_EQ(grant(&follower, {reads(2)}), Match::kUnknown);
  EXPECT_EQ(follower.position(), 0);
  EXPECT_EQ(grant(&follower, {reads(3)}), Match::kJumped);
  EXPECT_EQ(follower.position(), 3);
  run(&follower, 4, 12);
  EXPECT_EQ(follower.position(), 11);
  EXPECT_EQ(follower.deviations(), 2);
  EXPECT_EQ(follower.distance(), 3) << "the moment that was left out, too";
}

TEST(Follower, AnEvaluationThatBeginsAnewIsTheNextStepsForward) {
  Follower follower(layers());
  run(&follower, 0, 12);
  run(&follower, 0, 4);                                      // evaluation: forward only
  EXPECT_EQ(grant(&follower, {reads(0)}), Match::kUnknown);  // as in backward, but it does not go on like that
  EXPECT_EQ(follower.position(), 15);
  EXPECT_EQ(grant(&follower, {reads(1)}), Match::kJumped);
  EXPECT_EQ(follower.position(), 25);  // of the third step: it never goes back
  run(&follower, 2, 12);
  EXPECT_EQ(follower.position(), 35);
}

TEST(Follower, AJumpMayGoRoundTheEnd) {
  Follower follower(layers());
  run(&follower, 0, 10);
  EXPECT_EQ(grant(&follower, {reads(0)}), Match::kUnknown);  // a step whose last updates were left out
  EXPECT_EQ(grant(&follower, {reads(1)}), Match::kJumped);
  EXPECT_EQ(follower.position(), 13);
}

TEST(Follower, OfTwoPlacesAheadTheNearerOneIsTaken) {
  Follower follower(trace_of(std::vector<Bytes>(4, 4096),
                             {{{reads(0)}}, {{reads(1)}}, {{reads(2)}}, {{reads(0)}}, {{reads(1)}}, {{reads(3)}}}));
  for (const std::uint32_t payload : {0u, 1u}) EXPECT_EQ(grant(&follower, {reads(payload)}), Match::kExpected);
  EXPECT_EQ(grant(&follower, {reads(0)}), Match::kUnknown);
  EXPECT_EQ(grant(&follower, {reads(1)}), Match::kJumped);
  EXPECT_EQ(follower.position(), 4);
  EXPECT_EQ(grant(&follower, {reads(0)}), Match::kUnknown);
  EXPECT_EQ(grant(&follower, {reads(1)}), Match::kJumped);
  EXPECT_EQ(follower.position(), 7);  // round the end
}

TEST(Follower, APayloadThatTheTraceDoesNotKnow) {
  Follower follower(layers());
  EXPECT_EQ(grant(&follower, {reads(100)}), Match::kUnknown);
  EXPECT_EQ(follower.position(), -1);
  EXPECT_EQ(follower.next_use(PayloadId(100u), 0), -1);
  EXPECT_EQ(Follower(trace_of({4096, 4096}, {{{reads(0)}}})).next_use(PayloadId(1u), 0), -1);
  run(&follower, 0, 12);
}

TEST(Follower, NextUseIsTheFirstAfter) {
  const Follower follower(layers());
  EXPECT_EQ(follower.next_use(PayloadId(0u), -1), 0);
  EXPECT_EQ(follower.next_use(PayloadId(0u), 0), 7);
  EXPECT_EQ(follower.next_use(PayloadId(0u), 7), 8);
  EXPECT_EQ(follower.next_use(PayloadId(0u), 8), 12);
  EXPECT_EQ(follower.next_use(PayloadId(7u), 11), 23);
  EXPECT_EQ(follower.next_use(PayloadId(4u), 12 * 1000), 12 * 1000 + 8);
}

}  // namespace
}  // namespace patrickstar
