#include "apps/cli/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "patrickstar/core/sim/testing/steps_by_tensor.h"
#include "patrickstar/core/trace/trace_io.h"

namespace patrickstar::cli {
namespace {

using testing::HasSubstr;

constexpr std::size_t kLayers = 96;
constexpr Elems kElems = Elems{16} << 10;

Trace small_step() { return scattered_step(kLayers, kElems, 400'000); }

class LayoutCommand : public testing::Test {
 protected:
  LayoutCommand() { EXPECT_TRUE(save_trace(small_step(), trace_).ok()); }
  ~LayoutCommand() override {
    std::remove(trace_.c_str());
    std::remove(output_.c_str());
  }
  struct Run {
    int code = 0;
    std::string out;
    std::string err;
  };
  static Run run(const LayoutArguments& arguments) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Run run;
    run.code = run_layout(arguments);
    run.out = testing::internal::GetCapturedStdout();
    run.err = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), run.code == 0 ? 0 : 1) << run.err;
    return run;
  }

  const std::string base_ = testing::TempDir() + "/layout_test." + std::to_string(getpid());
  const std::string trace_ = base_ + ".trace";
  const std::string output_ = base_ + ".json";
  const LayoutArguments arguments_{
      .trace = trace_, .tiers = {"host=24MiB", "disk=1GB,bandwidth=1GB/s"}, .output = output_, .json = true};
};

TEST_F(LayoutCommand, TheTableEndsWithTheChoiceAndItsReason) {
  LayoutArguments arguments = arguments_;
  arguments.json = false;
  const Run done = run(arguments);
  EXPECT_EQ(done.code, 0) << done.err;
  const Run as_json = run(arguments_);
  const auto json = nlohmann::json::parse(as_json.out);
  const std::string reason = json["reason"];
  EXPECT_THAT(done.out, HasSubstr("\n" + reason + "\nThe order is that within what is attached together"));
  EXPECT_EQ(static_cast<std::size_t>(std::count(done.out.begin(), done.out.end(), '\n')), 2 + json["candidates"].size() + 2);
  EXPECT_EQ(std::count(done.out.begin(), done.out.end(), '*'), 1);
  EXPECT_EQ(run(arguments_).out, as_json.out) << "the same each time";
  for (const auto& candidate : json["candidates"]) {
    if (candidate.contains("error")) continue;
    EXPECT_GE(candidate["step_s"], candidate["limit_s"]);
    EXPECT_EQ(candidate["padding_bytes"].get<Bytes>() + Bytes{14 * 2 * kLayers} * kElems, candidate["payload_bytes"]);
  }
}

TEST_F(LayoutCommand, TheFileHoldsTheChoice) {
  const auto json = nlohmann::json::parse(run(arguments_).out);
  const auto& chosen = json["candidates"][json["chosen"].get<std::size_t>()];
  const auto layout = load_layout(output_);
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  EXPECT_EQ(layout.value().options.chunk_elems, chosen["chunk_elems"]);
  EXPECT_EQ(layout.value().options.tile_elems, chosen["tile_elems"]);
  EXPECT_EQ(layout.value().order, chosen["order"]);
  EXPECT_EQ(layout.value().reason, json["reason"]);
  ASSERT_EQ(layout.value().tensors.size(), 2 * kLayers);
  EXPECT_EQ(layout.value().order, "first use");
  EXPECT_EQ(layout.value().tensors[0], (TensorSpec{"first 0", kElems}));
  EXPECT_EQ(layout.value().tensors[1], (TensorSpec{"second 0", kElems}));
}

TEST_F(LayoutCommand, ExitCodesTellUsageFromFiles) {
  const auto expect = [&](LayoutArguments arguments, int code, const std::string& text) {
    const Run done = run(arguments);
    EXPECT_EQ(done.code, code) << text;
    EXPECT_EQ(done.out, "");
    EXPECT_THAT(done.err, HasSubstr("patrickstar: error: "));
    EXPECT_THAT(done.err, HasSubstr(text));
  };
  LayoutArguments arguments = arguments_;
  arguments.tiers.pop_back();
  expect(arguments, 2, "--tier disk=... is missing");
  arguments = arguments_;
  arguments.trace += ".not";
  expect(arguments, 1, "[trace] opening");
  arguments = arguments_;
  arguments.tiers[1] = "disk=1MiB,bandwidth=1GB/s";
  expect(arguments, 1, "[layout] the payloads take");
  arguments = arguments_;
  arguments.tiers[0] = "host=64KiB";
  expect(arguments, 1, "under no candidate can the step be replayed: ");
  Trace without = small_step();
  without.model = {};
  ASSERT_TRUE(save_trace(without, trace_).ok());
  expect(arguments_, 1, "does not say its tensors: record it anew with train --trace --chunk-elems 1");
}

TEST_F(LayoutCommand, AnOutputThatCannotBeWrittenIsAnErrorThatNamesIt) {
  LayoutArguments arguments = arguments_;
  arguments.output = "/nonexistent/layout.json";
  const Run done = run(arguments);
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.err, HasSubstr("cannot write /nonexistent/layout.json"));
}

TEST(LayoutOptions, AreParsed) {
  LayoutArguments arguments;
  CLI::App app;
  add_layout_options(app, &arguments);
  app.parse("--trace t --tier host=2GiB --tier disk=100GB,bandwidth=1.6GB/s --output o --json");
  EXPECT_EQ(arguments.trace, "t");
  EXPECT_EQ(arguments.tiers, (std::vector<std::string>{"host=2GiB", "disk=100GB,bandwidth=1.6GB/s"}));
  EXPECT_EQ(arguments.output, "o");
  EXPECT_TRUE(arguments.json);
  for (const char* wrong : {"", "--trace t", "--tier a", "--trace t --tier a --steps 3"}) {
    CLI::App other;
    LayoutArguments ignored;
    add_layout_options(other, &ignored);
    EXPECT_THROW(other.parse(wrong), CLI::ParseError) << wrong;
  }
}

}  // namespace
}  // namespace patrickstar::cli
