#include "patrickstar/core/base/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace patrickstar {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class TextFile : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  static std::string contents(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::ptrdiff_t files() const { return std::distance(std::filesystem::directory_iterator(folder_), {}); }

  const std::string folder_ = testing::TempDir() + "text_file." + std::to_string(getpid());
};

TEST_F(TextFile, IsWholeAndAlone) {
  const std::string path = folder_ + "/a.json";
  EXPECT_TRUE(check_text_file("summary", path).ok());
  EXPECT_EQ(files(), 0);
  for (const std::string text : {"first, longer", "second"}) {
    EXPECT_TRUE(write_text_file("summary", path, text).ok());
    EXPECT_EQ(contents(path), text);
  }
  EXPECT_TRUE(check_text_file("summary", path).ok());
  EXPECT_EQ(contents(path), "second");
  EXPECT_EQ(files(), 1);
}

TEST_F(TextFile, TheOldOneStaysWhereTheNewOneCannotBeWritten) {
  const std::string path = folder_ + "/a.json";
  EXPECT_TRUE(write_text_file("summary", path, "old").ok());
  std::filesystem::create_directory(path + "." + std::to_string(getpid()));  // in the way, also of root
  EXPECT_THAT(write_text_file("summary", path, "new").message(), AllOf(HasSubstr("[summary] cannot write"), HasSubstr(path)));
  EXPECT_FALSE(check_text_file("summary", path).ok());
  EXPECT_EQ(contents(path), "old");
}

TEST_F(TextFile, WhatCannotBeWrittenIsNamedBeforehandToo) {
  for (const std::string& path : {folder_ + "/nowhere/a.json", folder_}) {
    EXPECT_THAT(check_text_file("trace", path).message(), AllOf(HasSubstr("[trace] cannot write"), HasSubstr(path)));
    EXPECT_THAT(write_text_file("trace", path, "x").message(), AllOf(HasSubstr("[trace] cannot write"), HasSubstr(path)));
  }
}

TEST_F(TextFile, ALinkIsFollowedAndNotReplaced) {
  const std::string link = folder_ + "/link";
  const std::string target = folder_ + "/target";
  std::filesystem::create_symlink(target, link);
  for (const std::string text : {"made through it", "cut"}) {
    EXPECT_TRUE(check_text_file("summary", link).ok());
    EXPECT_TRUE(write_text_file("summary", link, text).ok());
    EXPECT_EQ(contents(target), text);
  }
  EXPECT_TRUE(std::filesystem::is_symlink(link));
}

TEST_F(TextFile, APipeIsWrittenAndNotReplaced) {
  const std::string path = folder_ + "/pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_TRUE(check_text_file("summary", path).ok());
  std::fstream reader(path);  // both ends, so that neither waits for the other
  EXPECT_TRUE(write_text_file("summary", path, "line\n").ok());
  std::string line;
  EXPECT_TRUE(std::getline(reader, line));
  EXPECT_EQ(line, "line");
  EXPECT_TRUE(std::filesystem::is_fifo(path));
}

}  // namespace
}  // namespace patrickstar
