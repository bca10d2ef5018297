#include "apps/cli/bench/run_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace patrickstar::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

nlohmann::json summary() {
  return {{"step_seconds", {9.0, 3.0, 2.0, 1.0}},
          {"stalled_seconds_per_step", {5.0, 0.5, 0.25, 0.125}},
          {"disk_read_bytes_per_step", {100, 10, 20, 30}},
          {"disk_written_bytes_per_step", {200, 1, 2, 3}},
          {"accesses_per_step", {10, 10, 10, 20}},
          {"misses_per_step", {10, 1, 2, 0}},
          {"late_prefetches_per_step", {0, 1, 2, 6}},
          {"losses_hex", {"a", "b", "c", "d"}},
          {"model_data_bytes", 1000},
          {"budget_bytes", nullptr},
          {"peak_non_model_bytes", 7},
          {"peak_total_bytes", nullptr},
          {"steps_peak_non_model_bytes", 5},
          {"evictions", 3},
          {"orchestration", {{"following", true}, {"plans", 2}, {"reserve_bytes", 11}}},
          {"io_backend", "pread"},
          {"simd", "AVX2"},
          {"versions", {{"torch", "2.11.0"}}},
          {"threads", 2}};
}

TEST(RunRecordTest, IsReadFromASummary) {
  const auto run = parse_run(summary().dump());
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_THAT(run.value().moved, ElementsAre(300, 11, 22, 33));
  EXPECT_EQ(run.value().losses[3], "d");
  EXPECT_EQ(run.value().budget, -1);
  EXPECT_EQ(run.value().peak_non_model, 7);
  EXPECT_EQ(run.value().steps_peak_non_model, 5);
  EXPECT_TRUE(run.value().following);
  EXPECT_EQ(run.value().plans, 2);
  EXPECT_EQ(run.value().reserve, 11);
  EXPECT_EQ(run.value().torch, "2.11.0");
}

TEST(RunRecordTest, WithoutAPlan) {
  nlohmann::json json = summary();
  json.erase("orchestration");
  const auto run = parse_run(json.dump());
  ASSERT_TRUE(run.ok());
  EXPECT_FALSE(run.value().following);
}

TEST(RunRecordTest, WhatIsNoneIsAnError) {
  for (const char* text : {"", "{", "{}", "[]", "null"}) EXPECT_FALSE(parse_run(text).ok()) << text;
  nlohmann::json json = summary();
  json["misses_per_step"] = {1, 2, 3};
  EXPECT_THAT(parse_run(json.dump()).status().message(), HasSubstr("lack figures"));
  json = summary();
  json["disk_written_bytes_per_step"] = {1, 2, 3, 4, 5};
  EXPECT_FALSE(parse_run(json.dump()).ok());
  json = summary();
  json.erase("late_prefetches_per_step");
  EXPECT_THAT(parse_run(json.dump()).status().message(), HasSubstr("late_prefetches_per_step"));
}

TEST(RunRecordTest, FiguresOfSomeSteps) {
  const RunRecord run = parse_run(summary().dump()).value();
  const WindowFigures figures = figures_of(run, 1, 4);
  EXPECT_EQ(figures.step, 2.0);
  EXPECT_EQ(figures.stalled, 0.25);
  EXPECT_EQ(figures.moved, 22);
  EXPECT_DOUBLE_EQ(figures.hit_rate, 1 - 3.0 / 40);
  EXPECT_EQ(figures.late, 3);
  EXPECT_EQ(figures_of(run, 0, 1).step, 9.0);
}

TEST(RunRecordTest, Median) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({4, 1}), 2.5);
  EXPECT_EQ(median({9, 1, 2}), 2);
}

}  // namespace
}  // namespace patrickstar::cli
