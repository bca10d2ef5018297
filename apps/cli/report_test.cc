#include "apps/cli/report.h"

#include <gmock/gmock.h>

namespace patrickstar::cli {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

StepRecord step(Bytes read, Bytes written, Bytes planned) {
  return {.seconds = 2,
          .disk_read = read,
          .disk_written = written,
          .stalled = 0.25,
          .accesses = 100,
          .misses = 6,
          .late = 4,
          .planned_read = planned,
          .planned_written = planned};
}

TEST(StepTable, ComparesTrafficWithPlanAndBound) {
  const std::vector<StepRecord> steps = {step(5'000'000'000, 1'000'000'000, 0),
                                         step(1'500'000'000, 1'500'000'000, 1'200'000'000)};
  const std::string text = step_table(steps, TrafficBound{.read = 1'000'000'000, .written = 1'000'000'000});
  EXPECT_THAT(text, ContainsRegex("\n +1 +2.000 +0.250 +5.000 +1.000 +100 +6 +4 +94.0 +- +3.000\n"));
  EXPECT_THAT(text, ContainsRegex("\n +2 +2.000 +0.250 +1.500 +1.500 +100 +6 +4 +94.0 +1.250 +1.500\n"));
  EXPECT_THAT(text, ContainsRegex("\n +plan +1.200 +1.200\n"));
  EXPECT_THAT(text, ContainsRegex("\nbound +1.000 +1.000 "));
}

TEST(StepTable, SaysNothingOfABoundThatIsNotKnown) {
  const std::vector<StepRecord> steps = {step(0, 0, 0)};
  const std::string text = step_table(steps, std::nullopt);
  EXPECT_THAT(text, ContainsRegex(" +94.0 +- +-\n$"));
  EXPECT_THAT(text, Not(HasSubstr("\nbound")));
}

PayloadReport chunk(std::string name, PayloadKind kind, Bytes moved, CopyState memory, CopyState disk) {
  return {
      .spec = {.kind = kind, .name = std::move(name), .bytes = 8 * kMiB},
      .states = {memory, disk, CopyState::kNone},
      .counts = {.uses = 10, .misses = 2, .late = 1, .evictions = 3, .read = moved, .written = moved, .resident = 1'500'000'000}};
}

TEST(ChunkTable, SumsKindsAndListsWhatMovedMost) {
  const std::string text =
      chunk_table({chunk("chunk 0 param", PayloadKind::kParam, 0, CopyState::kValid, CopyState::kNone),
                   chunk("chunk 0 tile 0", PayloadKind::kState, 8'000'000, CopyState::kNone, CopyState::kValid),
                   chunk("chunk 0 tile 1", PayloadKind::kState, 16'000'000, CopyState::kValid, CopyState::kValid)},
                  2);
  EXPECT_THAT(text, ContainsRegex("all 1 of param +8.0 MiB +10 +2 +1 +3 +0.0 +0.0 +1.50  1 in memory\n"));
  EXPECT_THAT(text, ContainsRegex("all 2 of state +16.0 MiB +20 +4 +2 +6 +24.0 +24.0 +3.00  1 in memory\n"));
  EXPECT_THAT(text, ContainsRegex("chunk 0 tile 1 +8.0 MiB +10 +2 +1 +3 +16.0 +16.0 +1.50  mem\\+disk\n"
                                  ".*chunk 0 tile 0 +8.0 MiB +10 +2 +1 +3 +8.0 +8.0 +1.50  disk\n"
                                  ".*and 1 more"));
  EXPECT_THAT(text, Not(HasSubstr("all 0")));
  EXPECT_THAT(text, Not(HasSubstr("chunk 0 param ")));
}

TEST(StateText, SaysWhereTheBytesStandAndGo) {
  const auto text = [](CopyState memory, CopyState disk) { return state_text(chunk("", PayloadKind::kParam, 0, memory, disk)); };
  EXPECT_EQ(text(CopyState::kValid, CopyState::kNone), "mem");
  EXPECT_EQ(text(CopyState::kNone, CopyState::kValid), "disk");
  EXPECT_EQ(text(CopyState::kFilling, CopyState::kValid), "disk -> mem");
  EXPECT_EQ(text(CopyState::kValid, CopyState::kFilling), "mem -> disk");
  EXPECT_EQ(text(CopyState::kNone, CopyState::kNone), "-");
}

}  // namespace
}  // namespace patrickstar::cli
