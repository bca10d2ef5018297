#include "patrickstar/core/obs/sinks.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace patrickstar {
namespace {

TEST(RingSink, KeepsTheLastEventsOldestFirst) {
  RingSink ring(3);
  for (int i = 0; i < 5; ++i) ring.on_event({.kind = EventKind::kStep, .bytes = i});
  const auto events = ring.snapshot();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events.front().bytes, 2);
  EXPECT_EQ(events.back().bytes, 4);
}

TEST(JsonLinesSink, WritesOneObjectALine) {
  const std::string path = testing::TempDir() + "/events_" + std::to_string(getpid()) + ".jsonl";
  {
    auto sink = JsonLinesSink::open(path);
    ASSERT_TRUE(sink.ok());
    sink.value()->on_event(
        {.kind = EventKind::kFetchDone, .level = 0, .payload = PayloadId(3u), .bytes = 4096, .time = 12, .name = "chunk 3"});
  }
  std::ifstream file(path);
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  EXPECT_EQ(line, R"({"t_ns":12,"event":"fetch_done","payload":"chunk 3","level":0,"bytes":4096})");
  EXPECT_FALSE(std::getline(file, line));
  unlink(path.c_str());
}

TEST(JsonLinesSink, NamesTheFileItCannotWrite) {
  const auto sink = JsonLinesSink::open("/no/such/dir/events.jsonl");
  ASSERT_FALSE(sink.ok());
  EXPECT_NE(sink.status().message().find("/no/such/dir/events.jsonl"), std::string::npos);
}

}  // namespace
}  // namespace patrickstar
