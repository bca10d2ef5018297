#include "patrickstar/core/obs/event_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace patrickstar {
namespace {

TEST(EventFile, WritesWholePiecesOnly) {
  const std::string path = testing::TempDir() + "/event_file_" + std::to_string(getpid());
  auto file = EventFile::open(path);
  ASSERT_TRUE(file.ok());
  const std::string piece(40'000, 'x');
  file.value()->append(piece);
  EXPECT_EQ(std::filesystem::file_size(path), 0u);
  file.value()->append(piece);  // together more than 64 KiB
  EXPECT_EQ(std::filesystem::file_size(path), 80'000u);
  file.value()->append("y");
  file.value()->flush();
  EXPECT_EQ(std::filesystem::file_size(path), 80'001u);
  file.value()->append("z");
  file.value().reset();
  EXPECT_EQ(std::filesystem::file_size(path), 80'002u);
  unlink(path.c_str());
}

TEST(EventFile, AFullDiskIsToldOnceAndEndsNothing) {
  auto file = EventFile::open("/dev/full");
  ASSERT_TRUE(file.ok());
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    file.value()->append("x");
    file.value()->flush();
  }
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_NE(told.find("[events] /dev/full ends here"), std::string::npos) << told;
  EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 1) << told;
}

TEST(EventFile, NamesTheFileItCannotWrite) {
  const auto file = EventFile::open("/no/such/dir/events.jsonl");
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.status().message().find("/no/such/dir/events.jsonl"), std::string::npos);
}

TEST(JsonQuoted, EscapesWhatJsonForbids) { EXPECT_EQ(json_quoted("a\"b\\c\n\x01"), R"("a\"b\\c\u000a\u0001")"); }

}  // namespace
}  // namespace patrickstar
