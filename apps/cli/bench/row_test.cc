#include "apps/cli/bench/row.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

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
