#include "patrickstar/core/obs/perfetto_sink.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace patrickstar {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::Pair;
using testing::UnorderedElementsAre;

class PerfettoSinkTest : public testing::Test {
 protected:
  PerfettoSinkTest() : path(testing::TempDir() + "/perfetto_" + std::to_string(getpid()) + ".json") {
    auto opened = PerfettoSink::open(path);
    EXPECT_TRUE(opened.ok());
    sink = std::move(opened.value());
  }
  ~PerfettoSinkTest() override { unlink(path.c_str()); }

  void transfer(EventKind kind, std::uint32_t payload, Nanos time, std::string_view why = {}) {
    const std::string name = "chunk " + std::to_string(payload);
    const bool up = kind == EventKind::kFetchStart || kind == EventKind::kFetchDone;
    sink->on_event({.kind = kind,
                    .level = static_cast<std::uint8_t>(up ? 0 : 1),
                    .payload = PayloadId(payload),
                    .bytes = 4096,
                    .time = time,
                    .name = name,
                    .payload_kind = "state",
                    .why = why});
  }
  std::string text() {
    std::stringstream content;
    content << std::ifstream(path).rdbuf();
    return content.str();
  }
  Json closed() {
    sink.reset();
    return Json::parse(text());
  }
  // Slices in the order of the file, by the names of their tracks.
  static std::vector<std::pair<std::string, Json>> slices(const Json& all) {
    std::map<int, std::string> tracks;
    std::vector<std::pair<std::string, Json>> found;
    for (const Json& object : all) {
      if (object["name"] == "thread_name") tracks[object["tid"]] = object["args"]["name"];
      if (object["ph"] == "X") found.emplace_back(tracks.at(object["tid"]), object);
    }
    return found;
  }

  std::string path;
  std::unique_ptr<PerfettoSink> sink;
};

TEST_F(PerfettoSinkTest, ATransferIsASliceWithWhatItMoved) {
  transfer(EventKind::kFetchStart, 3, 1'000'000, "prefetch");
  transfer(EventKind::kFetchDone, 3, 3'500'250);
  const auto found = slices(closed());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].first, "reads 1");
  EXPECT_EQ(found[0].second["name"], "chunk 3");
  EXPECT_EQ(found[0].second["ts"], 0.0);  // counted from the first event, in microseconds
  EXPECT_EQ(found[0].second["dur"], 2500.25);
  EXPECT_EQ(found[0].second["args"], (Json{{"bytes", 4096}, {"kind", "state"}, {"urgency", "prefetch"}}));
}

TEST_F(PerfettoSinkTest, WhatOverlapsHasLanesOfItsOwn) {
  transfer(EventKind::kFetchStart, 0, 0);
  transfer(EventKind::kFetchStart, 1, 10);
  transfer(EventKind::kWriteStart, 2, 10);
  transfer(EventKind::kFetchDone, 0, 20);
  transfer(EventKind::kFetchStart, 3, 30);  // the first lane is free again
  transfer(EventKind::kFetchDone, 1, 40);
  transfer(EventKind::kFetchDone, 3, 40);
  transfer(EventKind::kWriteDone, 2, 50);
  std::vector<std::pair<std::string, std::string>> lanes;
  for (const auto& [track, slice] : slices(closed())) lanes.emplace_back(track, slice["name"]);
  EXPECT_THAT(lanes, ElementsAre(Pair("reads 1", "chunk 0"), Pair("reads 2", "chunk 1"), Pair("reads 1", "chunk 3"),
                                 Pair("writes 1", "chunk 2")));
}

TEST_F(PerfettoSinkTest, AStallSaysWhoWaitedForWhat) {
  sink->on_event({.kind = EventKind::kStallStart, .bytes = 8, .time = 0, .name = "chunk 1", .why = "transfer", .thread = 2});
  sink->on_event({.kind = EventKind::kStallStart, .bytes = 64, .time = 1000, .why = "room", .thread = 5});
  sink->on_event({.kind = EventKind::kStallEnd, .time = 4000, .thread = 5});
  sink->on_event({.kind = EventKind::kStallEnd, .time = 5000, .thread = 2});
  const auto found = slices(closed());
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].first, "stalls of thread 5");
  EXPECT_EQ(found[0].second["name"], "room");
  EXPECT_EQ(found[0].second["dur"], 3.0);
  EXPECT_EQ(found[0].second["args"]["bytes"], 64);
  EXPECT_EQ(found[1].first, "stalls of thread 2");
  EXPECT_EQ(found[1].second["name"], "transfer chunk 1");
}

TEST_F(PerfettoSinkTest, StepsMarksAndCurves) {
  sink->on_event({.kind = EventKind::kAccess, .time = 0});
  sink->on_event({.kind = EventKind::kStep, .bytes = 0, .time = 500});
  sink->on_event({.kind = EventKind::kLate, .bytes = 4096, .time = 1000, .name = "chunk 9"});
  sink->on_event({.kind = EventKind::kNonModelBytes, .bytes = 77, .time = 2000});
  sink->on_event({.kind = EventKind::kStep, .bytes = 1, .time = 9000});
  const Json all = closed();
  std::vector<std::pair<std::string, double>> steps;
  for (const auto& [track, slice] : slices(all)) {
    EXPECT_EQ(track, "steps");
    steps.emplace_back(slice["name"], slice["dur"]);
  }
  EXPECT_THAT(steps, ElementsAre(Pair("before the first step", 0.5), Pair("step 1", 8.5)));
  std::map<std::string, Json> others;
  for (const Json& object : all) {
    if (object["ph"] == "i" || object["ph"] == "C") others[object["name"]] = object;
  }
  ASSERT_EQ(others.size(), 2u);
  EXPECT_EQ(others["late prefetch"]["args"]["payload"], "chunk 9");
  EXPECT_EQ(others["late prefetch"]["ts"], 1.0);
  EXPECT_EQ(others["2 non-model data"]["args"]["bytes"], 77);
}

TEST_F(PerfettoSinkTest, WhatFailedOrIsUnfinishedIsMarked) {
  transfer(EventKind::kFetchStart, 0, 0);
  transfer(EventKind::kFetchStart, 1, 0);
  sink->on_event({.kind = EventKind::kStallStart, .time = 1000, .why = "turn", .thread = 1});
  transfer(EventKind::kFailed, 0, 2000);
  const auto found = slices(closed());
  std::vector<std::pair<std::string, std::string>> ends;
  for (const auto& [track, slice] : found) ends.emplace_back(slice["name"], slice["args"].value("ended", "done"));
  EXPECT_THAT(ends,
              UnorderedElementsAre(Pair("chunk 0", "failed"), Pair("chunk 1", "unfinished"), Pair("its turn", "unfinished")));
}

// The format lets the closing bracket be missing, so what is in the file at any time can be opened.
TEST_F(PerfettoSinkTest, TheFileOfAKilledProcessLacksOnlyTheBracket) {
  for (int i = 0; i < 2000; ++i) {
    transfer(EventKind::kFetchStart, 0, 10 * i);
    transfer(EventKind::kFetchDone, 0, 10 * i + 5);
    if (i % 100 != 0) continue;
    if (const std::string so_far = text(); !so_far.empty()) {
      EXPECT_NO_THROW(Json::parse(so_far + "]")) << so_far.substr(so_far.size() - std::min<std::size_t>(200, so_far.size()));
    }
  }
  EXPECT_GT(text().size(), 65'536u);
  EXPECT_NO_THROW(Json::parse(text() + "]"));
}

TEST_F(PerfettoSinkTest, ARunWithoutEventsIsValidToo) { EXPECT_TRUE(closed().is_array()); }

TEST(PerfettoSink, NamesTheFileItCannotWrite) {
  const auto refused = PerfettoSink::open("/no/such/dir/timeline.json");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("/no/such/dir/timeline.json"), std::string::npos);
}

}  // namespace
}  // namespace patrickstar
