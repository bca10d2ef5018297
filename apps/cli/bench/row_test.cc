#include "apps/cli/bench/row.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "patrickstar/core/sim/synthetic.h"

namespace patrickstar::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Sample calm() {
  Sample sample{.compute_before = {1.0, 1.1},
                .compute_after = {0.95, 1.0},
                .beside_disk_steps = {1.5, 1.1},
                .steps = {2.0, 2.2},
                .replayed = 2'000'000'000};
  sample.figures = {.step = 2.1, .stalled = 0.5, .moved = 2'000'000'000, .hit_rate = 0.98, .late = 3};
  sample.disk_before = 0.95;
  sample.disk_after = 1.0;
  return sample;
}

BenchRow row() {
  BenchRow row{.wanted = {.share = 0.5, .ratio = 1}, .shape = {2, 96}, .budget = 123};
  row.samples = {calm()};
  row.samples[0].limit.bounds = {.min_read = 900'000'000,
                                 .min_write = 1'000'000'000,
                                 .compute = 1'000'000'000,
                                 .transfers = 950'000'000,
                                 .window = 2'000'000'000,
                                 .limit = 2'000'000'000};
  row.samples[0].limit.predicted = 2'205'000'000;
  row.samples[0].limit_beside_disk = 2'100'000'000;
  row.samples[0].limit.ring = 50;
  row.samples[0].limit.model_data = 2000;
  row.samples[0].limit.tightest_room = 1000;
  return row;
}

TEST(SampleTest, CalmOnesCount) {
  EXPECT_EQ(calm().fault(), "");
  EXPECT_DOUBLE_EQ(calm().disk(), 0.975);
  EXPECT_DOUBLE_EQ(calm().bytes_per_second(), 2e9 / 0.975);
  Sample fast = calm();
  fast.figures.step = 0.8;
  EXPECT_DOUBLE_EQ(fast.replay_bytes_per_second(), 2e9 / 0.975);
  EXPECT_DOUBLE_EQ(fast.bytes_per_second(), 2.5e9) << "what training was seen to move";
}

TEST(SampleTest, OthersAreDiscardedForAReason) {
  Sample sample = calm();
  sample.disk_before = 1.0;
  sample.disk_after = 1.09;
  EXPECT_EQ(sample.fault(), "");
  sample.disk_after = 1.11;
  EXPECT_THAT(sample.fault(), HasSubstr("1.000 s before and 1.110 s after"));
  std::swap(sample.disk_before, sample.disk_after);
  EXPECT_NE(sample.fault(), "");

  sample = calm();
  sample.compute_after = {1.15, 1.15};
  EXPECT_EQ(sample.fault(), "");
  sample.compute_after = {1.1, 1.22};
  EXPECT_THAT(sample.fault(), HasSubstr("compute took 1.050 s before and 1.160 s after"));

  sample = calm();
  sample.foreign = {.cores = 0.5, .seconds = 2};
  EXPECT_THAT(sample.fault(), HasSubstr("others used 0.50 cores"));

  for (const Bytes moved : {1'899'000'000, 2'101'000'000}) {
    sample = calm();
    sample.figures.moved = moved;
    EXPECT_THAT(sample.fault(), HasSubstr("were replayed")) << moved;
  }
}

TEST(BenchRowTest, FiguresByTheirLimits) {
  EXPECT_DOUBLE_EQ(row().time_by_limit(), 1.05);
  EXPECT_DOUBLE_EQ(row().sample().compute_beside_disk(), 1.3);
  EXPECT_DOUBLE_EQ(row().time_by_limit_beside_disk(), 1.0);
  EXPECT_DOUBLE_EQ(row().traffic_by_least(), 20.0 / 19);
  EXPECT_DOUBLE_EQ(row().predicted_by_measured(), 1.05);
  EXPECT_DOUBLE_EQ(row().ratio(), 1.0 / 0.95);
  EXPECT_DOUBLE_EQ(row().limit().allowed_traffic(), 1.10);
  EXPECT_TRUE(row().steady());
}

TEST(BenchRowTest, TheMedianOfSteadySamplesCounts) {
  BenchRow many = row();
  many.samples.resize(4, many.samples[0]);
  many.samples[0].figures.step = 2.5;
  many.samples[1].figures.step = 9;
  many.samples[1].disk_after = 2;  // discarded
  many.samples[2].figures.step = 2.0;
  many.choose();
  EXPECT_EQ(many.shown, 3u);
  EXPECT_DOUBLE_EQ(many.time_by_limit(), 1.05);
  EXPECT_EQ(many.discarded(), 1u);
  EXPECT_THAT(table_line(many),
              AllOf(HasSubstr("step by limit in each steady sample: 1.250 1.000 1.050\n"), HasSubstr("discarded: the disk")));
  many.samples[2].disk_after = 2;
  many.choose();
  EXPECT_EQ(many.shown, 0u) << "of two the greater";
  for (Sample& sample : many.samples) sample.disk_after = 2;
  many.choose();
  EXPECT_EQ(many.shown, 3u);
  EXPECT_FALSE(many.steady());
}

TEST(BenchRowTest, MoreSamplesAreTakenWhileTheyLieOnBothSidesOfTheAim) {
  BenchRow many = row();
  many.samples.clear();
  const auto add = [&](double step) {
    many.samples.push_back(row().samples[0]);  // limit: 2 s
    many.samples.back().figures.step = step;
  };
  EXPECT_TRUE(many.undecided(3));
  add(2.1);
  add(2.19);
  EXPECT_TRUE(many.undecided(3)) << "too few";
  add(2.2);
  EXPECT_FALSE(many.undecided(3)) << "all are within, the aim itself is";
  add(2.21);
  EXPECT_TRUE(many.undecided(3));
  many.samples.back().disk_after = 2;  // discarded
  EXPECT_FALSE(many.undecided(3));
  for (Sample& sample : many.samples) sample.figures.step = 2.3;
  EXPECT_FALSE(many.undecided(3)) << "all three are beyond";
  for (int within = 1; within <= 5; ++within) {
    add(2.1);
    EXPECT_EQ(many.undecided(3), within < 5) << within << " of eight are within, three are not";
  }
  many.choose();
  EXPECT_LT(many.time_by_limit(), 1.1);
  many.samples.back().figures.step = 2.3;
  EXPECT_FALSE(many.undecided(3)) << "four of each: the greater of the two in the middle counts";
  many.choose();
  EXPECT_GT(many.time_by_limit(), 1.1);
}

TEST(BenchRowTest, NeedingNothingAndMovingNothingIsTheBound) {
  BenchRow still = row();
  still.samples[0].limit.bounds.min_read = still.samples[0].limit.bounds.min_write = 0;
  still.samples[0].figures.moved = 0;
  EXPECT_EQ(still.traffic_by_least(), 1);
}

TEST(BenchRowTest, TheTableShowsEachFigureBesideItsLimit) {
  EXPECT_THAT(table_line(row()),
              AllOf(HasSubstr(" 50 %"), HasSubstr("2 x 96"), HasSubstr("2.000 w"), HasSubstr("1.050 (<=1.10)"),
                    HasSubstr("1.053 (<=1.100)"), HasSubstr("1.050 (+-0.10)"), HasSubstr("98 %"), Not(HasSubstr("DIFFER"))));
  BenchRow other = row();
  other.samples.insert(other.samples.begin(), calm());
  other.samples[0].foreign = {.cores = 1, .seconds = 9};
  other.exact_fault = "step 2: a, plain b";
  other.choose();
  EXPECT_THAT(table_line(other), AllOf(HasSubstr("discarded: others used 1.00 cores"), HasSubstr("the only steady sample"),
                                       HasSubstr("LOSSES DIFFER: step 2: a, plain b"), Not(HasSubstr("NOT STEADY"))));
  other.samples[1].disk_after = 2;
  other.choose();
  EXPECT_THAT(table_line(other), HasSubstr("NOT STEADY, and no tries left: the disk took"));
}

TEST(BenchRowTest, ASettingOutOfReachSaysWhy) {
  BenchRow far{.wanted = {.share = 0.75, .ratio = 0.5}, .unreachable = "too little"};
  EXPECT_THAT(table_line(far), AllOf(HasSubstr("75 %"), HasSubstr("not reached: too little")));
  EXPECT_EQ(row_json(far).dump(), R"({"share":0.75,"wanted_ratio":0.5,"not_reached":"too little"})");
}

TEST(BenchRowTest, ASettingThatFailedIsNotOutOfReach) {
  BenchRow broken{.wanted = {.share = 0.75, .ratio = 1}, .failed = "a run ended"};
  EXPECT_FALSE(broken.measured());
  EXPECT_THAT(table_line(broken), AllOf(HasSubstr("FAILED: a run ended"), Not(HasSubstr("not reached"))));
  EXPECT_EQ(row_json(broken).dump(), R"({"share":0.75,"wanted_ratio":1.0,"failed":"a run ended"})");
}

// The row with compute of so many times its transfers, measured with so many tokens.
BenchRow with_ratio(double ratio, TokenShape shape = {2, 96}) {
  BenchRow row = cli::row();
  row.shape = shape;
  row.samples[0].compute_before = row.samples[0].compute_after = {0.95 * ratio};
  return row;
}

TEST(BenchRowTest, ARatioThatCameOutElsewhereIsNotReached) {
  for (const double ratio : {0.86, 1.0, 1.14}) EXPECT_TRUE(with_ratio(ratio).reached()) << ratio;
  for (const double ratio : {0.84, 1.16}) EXPECT_FALSE(with_ratio(ratio).reached()) << ratio;
  BenchRow given = with_ratio(3);
  given.wanted.ratio = 0;
  EXPECT_TRUE(given.reached());
  EXPECT_THAT(table_line(given), Not(HasSubstr("ratio")));
  EXPECT_TRUE(row_json(given)["wanted_ratio"].is_null());

  BenchRow off = with_ratio(1.39);
  off.not_again = "the same";
  EXPECT_TRUE(off.measured());
  EXPECT_THAT(table_line(off),
              HasSubstr("ratio not reached: compute is 1.39 x transfers, 1 was asked for; not measured again: the same\n"));
  EXPECT_EQ(row_json(off)["ratio_reached"], false);
  EXPECT_EQ(row_json(row())["ratio_reached"], true);
  EXPECT_THAT(table_line(row()), Not(HasSubstr("not reached")));
}

class ReachTest : public testing::Test {
 protected:
  // Chooses and measures what is next in these lists.
  Result<BenchRow> reach() {
    return cli::reach(
        {.share = 0.5, .ratio = 1}, [&] { return next(&chosen_); },
        [&](const TokenShape& shape) {
          shapes_.push_back(shape);
          return next(&measured_);
        });
  }
  std::vector<Result<TokenShape>> chosen_;
  std::vector<Result<BenchRow>> measured_;
  std::vector<TokenShape> shapes_;

 private:
  template <class T>
  static T next(std::vector<T>* list) {
    T first = list->at(0);
    list->erase(list->begin());
    return first;
  }
};

TEST_F(ReachTest, OnceWhereTheRatioIsReached) {
  chosen_ = {TokenShape{2, 96}};
  measured_ = {with_ratio(1.1)};
  const auto row = reach();
  ASSERT_TRUE(row.ok());
  EXPECT_TRUE(row.value().reached());
  EXPECT_TRUE(row.value().earlier.empty());
}

TEST_F(ReachTest, OnceMoreWithTokensChosenAnew) {
  chosen_ = {TokenShape{2, 96}, TokenShape{1, 128}};
  measured_ = {with_ratio(1.39), with_ratio(1.05, {1, 128})};
  const auto row = reach();
  ASSERT_TRUE(row.ok());
  EXPECT_EQ(shapes_, (std::vector<TokenShape>{{2, 96}, {1, 128}}));
  EXPECT_TRUE(row.value().reached());
  EXPECT_THAT(table_line(row.value()), HasSubstr("measured before with 2 x 96 tokens: compute 1.39 x transfers\n"));
  EXPECT_EQ(row_json(row.value())["earlier"][0]["batch_size"], 2);

  chosen_ = {TokenShape{2, 96}, TokenShape{1, 128}};
  measured_ = {with_ratio(1.39), with_ratio(0.7, {1, 128})};
  const auto off = reach();
  ASSERT_TRUE(off.ok());
  EXPECT_FALSE(off.value().reached());
  EXPECT_DOUBLE_EQ(off.value().ratio(), 1.39) << "the nearer one";
  EXPECT_EQ(off.value().earlier.size(), 1u);
}

TEST_F(ReachTest, WhatWasMeasuredIsKept) {
  chosen_ = {TokenShape{2, 96}, TokenShape{2, 96}};
  measured_ = {with_ratio(1.39)};
  EXPECT_THAT(table_line(reach().value()), HasSubstr("tokens chosen anew are the same"));

  chosen_ = {TokenShape{2, 96}, Status(StatusCode::kUnavailable, "too slow")};
  measured_ = {with_ratio(1.39)};
  EXPECT_THAT(table_line(reach().value()), HasSubstr("not measured again: too slow"));

  chosen_ = {TokenShape{2, 96}, TokenShape{9, 96}};
  measured_ = {with_ratio(1.39), BenchRow{.unreachable = "too large"}};
  EXPECT_THAT(table_line(reach().value()), AllOf(HasSubstr("2 x 96"), HasSubstr("not measured again: too large")));

  chosen_ = {TokenShape{2, 96}, TokenShape{1, 128}};
  measured_ = {with_ratio(1.39), Status(StatusCode::kIoError, "a run ended")};
  const BenchRow failed = reach().value();
  EXPECT_THAT(table_line(failed), AllOf(HasSubstr("FAILED: a run ended"), HasSubstr("before with 2 x 96")));
  EXPECT_DOUBLE_EQ(row_json(failed)["earlier"][0]["ratio"].get<double>(), 1.39);

  BenchRow different = with_ratio(1.39);
  different.exact_fault = "step 2";
  chosen_ = {TokenShape{2, 96}};
  measured_ = {different};
  EXPECT_EQ(reach().value().exact_fault, "step 2") << "not measured away";
}

TEST_F(ReachTest, OutOfReachAndFailed) {
  chosen_ = {Status(StatusCode::kUnavailable, "too little")};
  EXPECT_EQ(reach().value().unreachable, "too little");
  chosen_ = {TokenShape{2, 96}};
  measured_ = {Status(StatusCode::kIoError, "a run ended")};
  EXPECT_EQ(reach().status().message(), "a run ended");
}

TEST(BenchRowTest, ALimitThatIsBeatenIsNone) {
  BenchRow fast = row();
  fast.samples[0].figures.step = 1.95;
  EXPECT_TRUE(fast.beats_limit());
  fast.samples[0].figures.step = 1.97;
  EXPECT_FALSE(fast.beats_limit());
  EXPECT_THAT(table_line(fast), Not(HasSubstr("trusted")));
  EXPECT_EQ(row_json(fast)["limit_trusted"], true);

  fast.samples[0].figures.step = 0.8;
  EXPECT_DOUBLE_EQ(fast.sample().training_bytes_per_second(), 2.5e9);
  EXPECT_THAT(table_line(fast), AllOf(HasSubstr("0.400 (<=1.10)"), HasSubstr("limit not to be trusted: faster than it"),
                                      HasSubstr("training moved 2.50 GB/s, the replay 2.05: the limit is by the faster")));
  const auto json = row_json(fast);
  EXPECT_EQ(json["limit_trusted"], false);
  EXPECT_DOUBLE_EQ(json["training_bytes_per_second"].get<double>(), 2.5e9);
  EXPECT_DOUBLE_EQ(json["disk_bytes_per_second"].get<double>(), 2.5e9);
  EXPECT_DOUBLE_EQ(json["replay_bytes_per_second"].get<double>(), 2e9 / 0.975);
}

TEST(JudgeTest, TheDiskIsAsFastAsTheReplayOrTrainingMoved) {
  const Trace trace = gpt_trace({.layers = 6,
                                 .hidden = 256,
                                 .vocab = 2048,
                                 .positions = 64,
                                 .tokens = 256,
                                 .recompute = Recompute::kNone,
                                 .update = UpdateAt::kSplit,
                                 .layout = {.chunk_elems = 1 << 18, .tile_elems = 1 << 16}});
  const Bytes budget = budget_with_room(trace, 0.5);
  Sample sample = calm();
  sample.compute_before = sample.compute_after = sample.beside_disk_steps = {1e-3};
  sample.replayed = sample.figures.moved = trace.model_data_bytes();
  sample.disk_before = sample.disk_after = 0.1;
  sample.figures.step = 0.2;  // at half of the replay's rate
  ASSERT_TRUE(judge(trace, budget, 0, &sample).ok());
  const auto limit = static_cast<double>(sample.limit.bounds.limit);
  EXPECT_GT(limit, 0.05e9);
  sample.figures.step = 0.05;  // at twice of it
  ASSERT_TRUE(judge(trace, budget, 0, &sample).ok());
  EXPECT_NEAR(static_cast<double>(sample.limit.bounds.limit), limit / 2, 2e6);
}

TEST(ClosingTest, CountsWhatWasReachedAndWhatTheLimitAllows) {
  BenchRow fast = row();
  fast.samples[0].figures.step = 0.8;
  BenchRow slow = row();
  slow.samples[0].figures.step = 2.3;
  BenchRow unsteady = row();
  unsteady.samples[0].disk_after = 2;
  BenchRow off = with_ratio(1.39);
  off.earlier = {unsteady};
  const BenchRow far{.unreachable = "too little"};
  const Closing end = closing({row(), fast, slow, unsteady, off, far}, Figures::kCount);
  EXPECT_EQ(end.code, 0);
  EXPECT_EQ(
      end.text,
      "4 of 6 settings reached, 3 measured steadily, 1 of these within 1.10 x limit, 1 faster than a limit that is not to be "
      "trusted; in 1 more the ratio was not reached; 2 samples discarded; losses bit for bit those of the plain runs' three "
      "steps\n");
  EXPECT_EQ(closing({row()}, Figures::kCount).text,
            "1 of 1 settings reached, 1 measured steadily, 1 of these within 1.10 x limit; 0 samples discarded; losses bit for "
            "bit those of the plain runs' three steps\n");
}

TEST(ClosingTest, TheExitCodeTellsWhetherAFigureCounts) {
  BenchRow unsteady = row();
  unsteady.samples[0].disk_after = 2;
  for (const BenchRow& useless : {unsteady, with_ratio(1.39), BenchRow{.unreachable = "too little"}}) {
    const Closing end = closing({useless}, Figures::kCount);
    EXPECT_EQ(end.code, 1);
    EXPECT_THAT(end.text, AllOf(HasSubstr("0 measured steadily"), HasSubstr("NOTHING was both reached and measured steadily\n")));
    EXPECT_EQ(closing({useless, row()}, Figures::kCount).code, 0);
  }
  EXPECT_EQ(closing({unsteady}, Figures::kMeanNothing).code, 0);
  EXPECT_EQ(closing({BenchRow{.unreachable = "too little"}}, Figures::kMeanNothing).code, 1);
  BenchRow different = row();
  different.exact_fault = "step 2";
  EXPECT_THAT(closing({different}, Figures::kCount).text, HasSubstr("losses DIFFER"));
  EXPECT_EQ(closing({different}, Figures::kCount).code, 1);
  const Closing failed = closing({row(), BenchRow{.failed = "a run ended"}}, Figures::kCount);
  EXPECT_EQ(failed.code, 1);
  EXPECT_THAT(failed.text, HasSubstr("1 of 2 settings FAILED"));
}

TEST(BenchRowTest, JsonHasRawSamplesAndReasons) {
  BenchRow two = row();
  two.samples.insert(two.samples.begin(), calm());
  two.samples[0].foreign = {.cores = 1, .seconds = 9};
  two.choose();
  const auto json = row_json(two);
  EXPECT_EQ(json["shown_sample"], 1);
  EXPECT_EQ(json["discarded"], 1);
  EXPECT_EQ(json["steady"], true);
  EXPECT_EQ(json["bits_equal"], true);
  EXPECT_EQ(json["samples"].size(), 2u);
  EXPECT_EQ(json["samples"][0]["discarded"], "others used 1.00 cores");
  EXPECT_TRUE(json["samples"][1]["discarded"].is_null());
  EXPECT_EQ(json["samples"][1]["step_seconds"].dump(), "[2.0,2.2]");
  EXPECT_EQ(json["samples"][1]["compute_step_seconds_before"].size(), 2u);
  EXPECT_EQ(json["limit_is"], "window");
  EXPECT_EQ(json["time_by_limit_allowed"], 1.10);
  two.samples[1].figures.moved = 0;
  EXPECT_EQ(row_json(two)["discarded"], 2);
  EXPECT_EQ(row_json(two)["steady"], false);
}

}  // namespace
}  // namespace patrickstar::cli
