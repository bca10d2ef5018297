#include "patrickstar/core/io/transfer_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "patrickstar/core/io/testing/link_fixture.h"

namespace patrickstar {
namespace {

using testing::HasSubstr;

constexpr LoggedTransfer kRead{Direction::kUp, 8192, 4096};
constexpr LoggedTransfer kWrite{Direction::kDown, 0, 12288};

Transfer transfer_of(const LoggedTransfer& logged) {
  return {.direction = logged.direction, .lower = Place{static_cast<std::uint64_t>(logged.offset)}, .bytes = logged.bytes};
}

TEST(TransferLog, MoreBytesThanASumHoldsAreRefused) {
  const std::string path = testing::TempDir() + "/more_bytes_than_a_sum_holds.transfers";
  std::ofstream(path) << "patrickstar-transfers 1\nstep\nr 0 1152921504606846976\nr 0 4096\nend 1 2\n";
  EXPECT_THAT(load_transfers(path).status().message(), testing::HasSubstr(":4: more than 2^60 bytes"));
}

TEST(TransferLog, KeepsThemByStepInTheOrderOfStart) {
  TransferLog log;
  log.started(transfer_of(kRead));  // the model is built
  log.begin_step();
  log.started(transfer_of(kWrite));
  log.started(transfer_of(kRead));
  log.begin_step();
  log.begin_step();
  log.started(transfer_of(kRead));
  log.end_last_step();
  log.started(transfer_of(kWrite));  // the weights are read out
  EXPECT_EQ(log.steps(), (std::vector<StepTransfers>{{kWrite, kRead}, {}, {kRead}}));
  EXPECT_EQ(total_bytes(log.steps()[0]), 16384);
}

class Counting final : public Link {
 public:
  void set_sink(TransferSink*) override { ++sinks; }
  void start(const Transfer& transfer) override { started = transfer.bytes; }
  Bytes bytes_up() const override { return 3; }
  Bytes bytes_down() const override { return 4; }
  int sinks = 0;
  Bytes started = 0;
};

TEST(LoggingLinkTest, PassesEverythingOn) {
  TransferLog log;
  log.begin_step();
  auto owned = std::make_unique<Counting>();
  Counting& inner = *owned;
  LoggingLink link(std::move(owned), &log);
  link.set_sink(nullptr);
  link.start(transfer_of(kWrite));
  EXPECT_EQ(inner.sinks, 1);
  EXPECT_EQ(inner.started, kWrite.bytes);
  EXPECT_EQ(link.bytes_up(), 3);
  EXPECT_EQ(link.bytes_down(), 4);
  EXPECT_EQ(log.steps(), std::vector<StepTransfers>{{kWrite}});
}

class TransferFile : public testing::Test {
 protected:
  std::string path() const { return dir_.path() + "/transfers"; }
  std::string error_of(const std::string& text) const {
    std::ofstream(path()) << text;
    const auto loaded = load_transfers(path());
    return loaded.ok() ? "" : loaded.status().message();
  }
  TempDir dir_;
};

TEST_F(TransferFile, ComesBackAsItWas) {
  const std::vector<StepTransfers> steps{{}, {kRead, kWrite}, {kWrite}};
  ASSERT_TRUE(save_transfers(steps, path()).ok());
  const auto loaded = load_transfers(path());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded.value(), steps);
  std::ostringstream text;
  text << std::ifstream(path()).rdbuf();
  EXPECT_EQ(text.str(), "patrickstar-transfers 1\nstep\nstep\nr 8192 4096\nw 0 12288\nstep\nw 0 12288\nend 3 3\n");
}

TEST_F(TransferFile, TheFirstWrongLineIsNamed) {
  const std::string begin = "patrickstar-transfers 1\nstep\n";
  EXPECT_EQ(error_of(begin + "r 0 4096\nend 1 1\n"), "");
  EXPECT_THAT(error_of("transfers\n"), HasSubstr(":1: not \"patrickstar-transfers 1\""));
  EXPECT_THAT(error_of("patrickstar-transfers 1\nr 0 4096\nend 0 1\n"), HasSubstr(":2: "));
  for (const char* line : {"x 0 4096", "r 0", "r 0 4095", "r 1 4096", "r 0 0", "r -4096 4096", "r 00 4096", "r 0 4096 ",
                           "r 0 4096 1", "r  0 4096", "end 1 1", "r 0 99999999999999999999", "r 2305843009213693952 4096"})
    EXPECT_THAT(error_of(begin + line + "\nend 1 1\n"), HasSubstr(":3: ")) << line;
  EXPECT_THAT(error_of(begin + "r 0 4096\n"), HasSubstr(":4: the end is missing"));
  EXPECT_THAT(error_of(begin + "end 1 0\nstep\n"), HasSubstr(":4: a line after the end"));
}

TEST_F(TransferFile, FilesThatAreNotToBeHad) {
  EXPECT_THAT(save_transfers({}, dir_.path() + "/no/file").message(), HasSubstr("/no/file: No such file"));
  EXPECT_THAT(load_transfers(dir_.path() + "/nothing").status().message(), HasSubstr("/nothing: No such file"));
}

}  // namespace
}  // namespace patrickstar
