#include "patrickstar/core/io/transfer_log.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>

#include "patrickstar/core/base/text_file.h"
#include "patrickstar/core/mem/tier.h"

namespace patrickstar {
namespace {

constexpr std::string_view kFirstLine = "patrickstar-transfers 1";
constexpr Bytes kMostBytes = Bytes{1} << 60;  // of all transfers together, so that no sum of a reader overflows

// "r 0 4096"; nothing: it is no transfer.
std::optional<LoggedTransfer> parse(const std::string& line) {
  char direction = 0;
  long long offset = -1;
  long long bytes = -1;
  if (std::sscanf(line.c_str(), "%c %lld %lld", &direction, &offset, &bytes) != 3) return std::nullopt;
  // Written again it must be the same: no signs, zeros or words too many.
  if ((direction != 'r' && direction != 'w') || fmt::format("{} {} {}", direction, offset, bytes) != line) return std::nullopt;
  if (offset < 0 || offset > kMostBytes || bytes <= 0 || bytes > kMostBytes) return std::nullopt;
  if (offset % kPayloadAlignment != 0 || bytes % kPayloadAlignment != 0) return std::nullopt;
  return LoggedTransfer{direction == 'r' ? Direction::kUp : Direction::kDown, offset, bytes};
}

}  // namespace

Bytes total_bytes(const StepTransfers& transfers) {
  Bytes sum = 0;
  for (const LoggedTransfer& transfer : transfers) sum += transfer.bytes;
  return sum;
}

void TransferLog::begin_step() {
  const std::lock_guard lock(mutex_);
  steps_.emplace_back();
  in_step_ = true;
}

void TransferLog::end_last_step() {
  const std::lock_guard lock(mutex_);
  in_step_ = false;
}

void TransferLog::started(const Transfer& transfer) {
  const std::lock_guard lock(mutex_);
  if (!in_step_) return;
  steps_.back().push_back({transfer.direction, static_cast<Bytes>(transfer.lower.value), transfer.bytes});
}

std::vector<StepTransfers> TransferLog::steps() const {
  const std::lock_guard lock(mutex_);
  return steps_;
}

Status save_transfers(const std::vector<StepTransfers>& steps, const std::string& path) {
  std::string text = fmt::format("{}\n", kFirstLine);
  std::size_t count = 0;
  for (const StepTransfers& step : steps) {
    text += "step\n";
    for (const LoggedTransfer& transfer : step) {
      text += fmt::format("{} {} {}\n", transfer.direction == Direction::kUp ? 'r' : 'w', transfer.offset, transfer.bytes);
    }
    count += step.size();
  }
  text += fmt::format("end {} {}\n", steps.size(), count);
  return write_text_file("transfers", path, text);
}

Result<std::vector<StepTransfers>> load_transfers(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Status(StatusCode::kIoError, fmt::format("[transfers] cannot read {}: {}", path, std::strerror(errno)));
  std::vector<StepTransfers> steps;
  std::size_t count = 0;
  Bytes all = 0;
  std::size_t number = 0;
  bool ended = false;
  const auto bad = [&](std::string_view what) {
    return Status(StatusCode::kInvalidArgument, fmt::format("[transfers] {}:{}: {}", path, number, what));
  };
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (number == 1) {
      if (line != kFirstLine) return bad(fmt::format("not \"{}\"", kFirstLine));
    } else if (ended) {
      return bad("a line after the end");
    } else if (line == "step") {
      steps.emplace_back();
    } else if (line == fmt::format("end {} {}", steps.size(), count)) {
      ended = true;
    } else {
      const auto transfer = parse(line);
      if (transfer.has_value() && (all += transfer->bytes) > kMostBytes) return bad("more than 2^60 bytes together");
      if (!transfer.has_value() || steps.empty()) return bad("not a transfer of a step, like \"r 0 4096\", nor the right end");
      steps.back().push_back(*transfer);
      ++count;
    }
  }
  ++number;
  if (!ended) return bad("the end is missing: cut short?");
  return steps;
}

}  // namespace patrickstar
