#include "apps/cli/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "patrickstar/core/policy/registry.h"
#include "patrickstar/core/sim/synthetic.h"
#include "patrickstar/core/trace/trace_io.h"

namespace patrickstar::cli {
namespace {

using testing::HasSubstr;

std::string error_of(const std::vector<std::string>& tiers) {
  const auto parsed = parse_tiers(tiers);
  return parsed.ok() ? "" : parsed.status().message();
}

TEST(ReplayTiers, AreReadAsPeopleWriteThem) {
  const auto parsed = parse_tiers({"disk=100GB,latency=80us,bandwidth=1.6GB/s", "host=1.5GiB"});
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed.value().host, 3 * kGiB / 2);
  EXPECT_EQ(parsed.value().disk, 100'000'000'000);
  EXPECT_EQ(parsed.value().disk_bytes_per_second, 1.6e9);
  EXPECT_EQ(parsed.value().disk_latency, 80'000);
}

TEST(ReplayTiers, WhatIsWrongIsSaidInOneLine) {
  const std::string disk = "disk=1GB,bandwidth=1GB/s";
  EXPECT_THAT(error_of({disk}), HasSubstr("host=... is missing"));
  EXPECT_THAT(error_of({"host=1GB"}), HasSubstr("disk=... is missing"));
  EXPECT_THAT(error_of({"host=1GB", "disk=1GB"}), HasSubstr("bandwidth is missing"));
  EXPECT_THAT(error_of({"host=1GB", "host=1GB", disk}), HasSubstr("host is given twice"));
  EXPECT_THAT(error_of({"gpu=1GB", disk}), HasSubstr("--tier gpu=1GB: write host="));
  EXPECT_THAT(error_of({"host", disk}), HasSubstr("--tier host: write host="));
  EXPECT_THAT(error_of({"host=", disk}), HasSubstr("is not a size"));
  EXPECT_THAT(error_of({"host=0", disk}), HasSubstr("0 is no room"));
  EXPECT_THAT(error_of({"host=1GB,bandwidth=1GB", disk}), HasSubstr("host has a size only"));
  EXPECT_THAT(error_of({"host=1GB", "disk=1GB,bandwidth=fast"}), HasSubstr("\"bandwidth=fast\" is not a bandwidth"));
  EXPECT_THAT(error_of({"host=1GB", "disk=1GB,bandwidth=0"}), HasSubstr("is not a bandwidth"));
  EXPECT_THAT(error_of({"host=1GB", "disk=1GB,speed=3"}), HasSubstr("disk knows no \"speed=3\""));
  for (const char* latency : {"80", "us", "-1us", "1h", "", "nanus", "1e99s"})
    EXPECT_THAT(error_of({"host=1GB", disk + ",latency=" + latency}), HasSubstr("is not a latency")) << latency;
}

class Replayed : public testing::Test {
 protected:
  void SetUp() override {
    trace_ = gpt_trace({.layers = 6,
                        .hidden = 64,
                        .vocab = 1000,
                        .positions = 32,
                        .tokens = 64,
                        .recompute = Recompute::kNone,
                        .update = UpdateAt::kSplit,
                        .layout = {.chunk_elems = 16384, .tile_elems = 4096}});
    path_ = testing::TempDir() + "/replay_test." + std::to_string(getpid()) + ".trace";
    ASSERT_TRUE(save_trace(trace_, path_).ok());
    host_ = "host=" + std::to_string(budget_with_room(trace_, 0.5));
  }
  void TearDown() override { std::remove(path_.c_str()); }

  ReplayArguments with(const std::string& policy) const {
    return {.trace = path_, .tiers = {host_, "disk=1GB,bandwidth=1.6GB/s"}, .policy = policy, .json = true};
  }
  nlohmann::json report(const ReplayArguments& arguments) const {
    const auto text = replay_report(arguments, parse_tiers(arguments.tiers).value());
    EXPECT_TRUE(text.ok()) << text.status().message();
    return text.ok() ? nlohmann::json::parse(text.value()) : nlohmann::json();
  }

  Trace trace_;
  std::string path_;
  std::string host_;
};

TEST_F(Replayed, ADiskWithoutItsUnitIsRefusedInOneLine) {
  ReplayArguments arguments = with("lru");
  arguments.tiers[1] = "disk=1GB,bandwidth=1";
  arguments.steps = 1000;
  const auto report = replay_report(arguments, parse_tiers(arguments.tiers).value());
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.status().message(), HasSubstr("is a unit missing, as in bandwidth=1.6GB/s?"));
}

TEST_F(Replayed, PlannedMovesLessThanLruAndNeitherBeatsTheBounds) {
  const auto planned = report(with("planned"));
  const auto lru = report(with("lru"));
  EXPECT_EQ(planned["steps"].size(), 8u);
  EXPECT_EQ(planned["bounds"], lru["bounds"]);
  EXPECT_EQ(planned["model_data_bytes"], trace_.model_data_bytes());
  EXPECT_TRUE(planned["orchestration"]["following"]);
  EXPECT_FALSE(lru.contains("orchestration"));
  for (const auto& one : {planned, lru}) {
    const auto& last = one["steps"].back();
    EXPECT_GE(last["time_s"], one["bounds"]["limit_s"]);
    EXPECT_GE(last["read_bytes"], one["bounds"]["least_read_bytes"]);
    EXPECT_GE(one["last_step"]["time_by_limit"], 1);
    EXPECT_NEAR(last["time_s"].get<double>() - last["stall_s"].get<double>(), one["bounds"]["compute_s"].get<double>(), 1e-9);
  }
  EXPECT_LT(planned["steps"].back()["read_bytes"], lru["steps"].back()["read_bytes"]);
  EXPECT_GT(planned["steps"].back()["hit_rate"], lru["steps"].back()["hit_rate"]);
  EXPECT_EQ(report(with("planned")), planned);
}

TEST_F(Replayed, EachRegisteredPolicyRunsAndNoneBeatsTheBounds) {
  std::map<std::string, nlohmann::json> last;
  for (const PolicyEntry& policy : registered_policies()) {
    const std::string name(policy.name);
    const auto all = report(with(name));
    EXPECT_EQ(all["policy"], name);
    EXPECT_EQ(all.contains("orchestration"), name == "planned");
    last[name] = all["steps"].back();
    EXPECT_GE(last[name]["time_s"], all["bounds"]["limit_s"]) << name;
    EXPECT_GE(last[name]["read_bytes"], all["bounds"]["least_read_bytes"]) << name;
    EXPECT_GT(last[name]["misses"], 0) << name;
    ReplayArguments table = with(name);
    table.json = false;
    EXPECT_THAT(replay_report(table, parse_tiers(table.tiers).value()).value(), HasSubstr("policy " + name + "\n"));
  }
  // On demand none reads less than who knows the future.
  for (const char* name : {"lru", "lfu"}) {
    EXPECT_LT(last["furthest"]["read_bytes"], last[name]["read_bytes"]) << name;
    EXPECT_LT(last["furthest"]["time_s"], last[name]["time_s"]) << name;
  }
  EXPECT_LT(last["planned"]["time_s"], last["lru"]["time_s"]);
}

TEST_F(Replayed, TheTableHasALineForEachStepAndOneForTheBounds) {
  ReplayArguments arguments = with("planned");
  arguments.json = false;
  arguments.steps = 3;
  testing::internal::CaptureStdout();
  EXPECT_EQ(run_replay(arguments), 0);
  const std::string text = testing::internal::GetCapturedStdout();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2 + 3 + 4);
  EXPECT_THAT(text, HasSubstr("of the limit in time"));
  EXPECT_THAT(text, HasSubstr("plan: followed, made 1 times; 0 unexpected moments"));
}

TEST_F(Replayed, ExitCodesTellUsageFromFiles) {
  const auto run = [](const ReplayArguments& arguments) {
    testing::internal::CaptureStderr();
    const int code = run_replay(arguments);
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_EQ(text.find("patrickstar: error: "), 0u) << text;
    return std::to_string(code) + text;
  };
  ReplayArguments arguments = with("planned");
  arguments.tiers.pop_back();
  EXPECT_THAT(run(arguments), HasSubstr("2patrickstar: error: --tier disk"));
  EXPECT_THAT(run(with("fifo")), HasSubstr("there is no policy \"fifo\""));
  arguments = with("planned");
  arguments.trace = path_ + ".not";
  EXPECT_THAT(run(arguments), HasSubstr("1patrickstar: error: [trace]"));
  arguments = with("planned");
  arguments.tiers[0] = "host=64KiB";
  EXPECT_THAT(run(arguments), HasSubstr("[replay] host lacks"));
  arguments = with("planned");
  arguments.tiers[1] = "disk=64KiB,bandwidth=1GB/s";
  EXPECT_THAT(run(arguments), HasSubstr("1patrickstar: error: [replay] the payloads take"));
  std::ofstream(path_, std::ios::trunc) << "patrickstar-trace 1\npayloads\nmoments\nend 0 0 0\n";
  EXPECT_THAT(run(with("planned")), HasSubstr("a step without moments"));
  std::ofstream(path_, std::ios::trunc) << "patrickstar-trace 1\npayloads\n";
  EXPECT_THAT(run(with("planned")), HasSubstr("1patrickstar: error: [trace]"));
}

TEST(ReplayOptions, AreParsed) {
  ReplayArguments arguments;
  CLI::App app;
  add_replay_options(app, &arguments);
  app.parse("--trace t --tier host=2GiB --tier disk=100GB,bandwidth=1.6GB/s --policy lru --steps 3 --json");
  EXPECT_EQ(arguments.trace, "t");
  EXPECT_EQ(arguments.tiers, (std::vector<std::string>{"host=2GiB", "disk=100GB,bandwidth=1.6GB/s"}));
  EXPECT_EQ(arguments.policy, "lru");
  EXPECT_EQ(arguments.steps, 3);
  EXPECT_TRUE(arguments.json);
  for (const PolicyEntry& policy : registered_policies()) {
    CLI::App other;
    add_replay_options(other, &arguments);
    other.parse("--trace t --tier a --policy " + std::string(policy.name));
    EXPECT_EQ(arguments.policy, policy.name);
    EXPECT_THAT(other.help(), HasSubstr(std::string(policy.name) + ": " + std::string(policy.what.substr(0, 8))));
  }
  for (const char* wrong : {"", "--trace t", "--trace t --tier a --policy plan", "--trace t --tier a --policy fifo",
                            "--trace t --tier a --steps 0", "--trace t --tier a b"}) {
    CLI::App other;
    ReplayArguments ignored;
    add_replay_options(other, &ignored);
    EXPECT_THROW(other.parse(wrong), CLI::ParseError) << wrong;
  }
}

}  // namespace
}  // namespace patrickstar::cli
