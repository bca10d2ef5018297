#include "apps/cli/bench/child.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>

#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A summary of so many steps, as shell: what --pause-after leaves. $0 is the file that follows --summary.
std::string writes(int steps) {
  std::string numbers;
  std::string texts;
  for (int i = 0; i < steps; ++i) {
    numbers += (i == 0 ? "" : ",") + std::to_string(i);
    texts += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\"";
  }
  return "echo '{\"step_seconds\":[" + numbers + "],\"stalled_seconds_per_step\":[" + numbers +
         "],\"disk_read_bytes_per_step\":[" + numbers + "],\"disk_written_bytes_per_step\":[" + numbers +
         "],\"accesses_per_step\":[" + numbers + "],\"misses_per_step\":[" + numbers + "],\"late_prefetches_per_step\":[" +
         numbers + "],\"losses_hex\":[" + texts +
         "],\"model_data_bytes\":1,\"budget_bytes\":1,\"peak_non_model_bytes\":1,\"peak_total_bytes\":1,\"steps_peak_non_model_"
         "bytes\":1,\"evictions\":0,"
         "\"io_backend\":\"\",\"simd\":\"\",\"versions\":{\"torch\":\"\"},\"threads\":1}' > $1\n";
}

class ChildTest : public testing::Test {
 protected:
  // The shell in place of the program; it gets "--summary FILE" as $0 and $1.
  std::unique_ptr<Child> start(const std::string& script) {
    auto child = Child::start("/bin/sh", {"-c", script}, dir_.path() + "/run");
    EXPECT_TRUE(child.ok()) << child.status().message();
    return std::move(child).value();
  }
  TempDir dir_;
};

TEST_F(ChildTest, StopsItselfAndGoesOn) {
  const auto child = start(writes(1) + "kill -STOP $$\n" + writes(3));
  const auto first = child->run();
  ASSERT_TRUE(first.ok()) << first.status().message();
  EXPECT_EQ(first.value().steps(), 1u);
  const auto second = child->run();
  ASSERT_TRUE(second.ok()) << second.status().message();
  EXPECT_EQ(second.value().steps(), 3u);
  EXPECT_FALSE(child->run().ok());  // it has ended
}

TEST_F(ChildTest, AFailureBringsItsLastWords) {
  const auto run = start("echo noise >&2; echo 'patrickstar: error: no room' >&2; exit 1")->run();
  EXPECT_THAT(run.status().message(), AllOf(HasSubstr("code 1"), HasSubstr("patrickstar: error: no room")));
  EXPECT_THAT(start("exit 3")->run().status().message(), AllOf(HasSubstr("code 3"), HasSubstr("said nothing")));
  EXPECT_THAT(start("kill -KILL $$")->run().status().message(), HasSubstr("signal 9"));
  EXPECT_THAT(start("exit 0")->run().status().message(), HasSubstr("cannot be read"));
}

TEST_F(ChildTest, AProgramThatIsNotThere) {
  auto child = Child::start(dir_.path() + "/nothing", {}, dir_.path() + "/run");
  ASSERT_TRUE(child.ok());
  EXPECT_THAT(child.value()->run().status().message(), HasSubstr("code 127"));
}

TEST_F(ChildTest, ARunThatSaysNothingNewIsNamed) {
  const std::string gate = dir_.path() + "/gate";
  ASSERT_EQ(mkfifo(gate.c_str(), 0600), 0);
  const auto child = start("echo 'step 7' >&2; read line < '" + gate + "'\n" + writes(2));
  std::string line;
  const auto say = [&](const std::string& text) {
    // The first one may come before the child says anything.
    if (!line.empty() || text.find("step 7") == std::string::npos) return;
    line = text;
    std::ofstream(gate) << "go\n";
  };
  const auto run = child->run({.tick = std::chrono::milliseconds(1), .say = say});
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run.value().steps(), 2u);
  EXPECT_THAT(line, AllOf(HasSubstr("process " + std::to_string(child->pid())), HasSubstr("step 7")));
}

TEST_F(ChildTest, GoesWithItsObject) {
  auto child = start(writes(1) + "kill -STOP $$\n");
  ASSERT_TRUE(child->run().ok());
  const pid_t pid = child->pid();
  EXPECT_EQ(kill(pid, 0), 0);
  child.reset();
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

}  // namespace
}  // namespace patrickstar::cli
