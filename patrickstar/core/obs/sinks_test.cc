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

TEST(JsonLinesSink, SaysWhatATransferIsAndWhoWaits) {
  const std::string path = testing::TempDir() + "/event_details_" + std::to_string(getpid()) + ".jsonl";
  auto sink = JsonLinesSink::open(path);
  ASSERT_TRUE(sink.ok());
  sink.value()->on_event(
      {.kind = EventKind::kFetchStart, .bytes = 8, .time = 1, .name = "a \"b\"", .payload_kind = "state", .why = "prefetch"});
  sink.value()->on_event({.kind = EventKind::kStallStart, .time = 2, .why = "turn", .thread = 3});
  sink.value()->on_event({.kind = EventKind::kStep, .bytes = 1, .time = 4});
  std::ifstream file(path);  // what ends with a step is there, although the sink still is
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  EXPECT_EQ(line, R"({"t_ns":1,"event":"fetch_start","payload":"a \"b\"","level":0,"bytes":8,"kind":"state","why":"prefetch"})");
  ASSERT_TRUE(std::getline(file, line));
  EXPECT_EQ(line, R"({"t_ns":2,"event":"stall_start","payload":"","level":0,"bytes":0,"why":"turn","thread":3})");
  EXPECT_TRUE(std::getline(file, line));
  unlink(path.c_str());
}

TEST(JsonLinesSink, NamesTheFileItCannotWrite) {
  const auto sink = JsonLinesSink::open("/no/such/dir/events.jsonl");
  ASSERT_FALSE(sink.ok());
  EXPECT_NE(sink.status().message().find("/no/such/dir/events.jsonl"), std::string::npos);
}

// Counts into a number of the test's.
class CountingSink final : public EventSink {
 public:
  explicit CountingSink(int* count) : count_(count) {}
  void on_event(const Event&) override { ++*count_; }

 private:
  int* const count_;
};

TEST(FanOutSink, HandsEachEventToAll) {
  int first = 0;
  int second = 0;
  FanOutSink sink;
  EXPECT_TRUE(sink.empty());
  sink.add(std::make_unique<CountingSink>(&first));
  sink.add(std::make_unique<CountingSink>(&second));
  EXPECT_FALSE(sink.empty());
  for (int i = 0; i < 3; ++i) sink.on_event({});
  EXPECT_EQ(first, 3);
  EXPECT_EQ(second, 3);
}

}  // namespace
}  // namespace patrickstar
