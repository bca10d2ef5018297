#include "patrickstar/core/testing/manual_link.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "patrickstar/core/base/check.h"

namespace patrickstar {
namespace {

const std::byte* source_of(const Transfer& transfer) {
  return transfer.direction == Direction::kUp ? transfer.lower.address() : transfer.upper.address();
}

std::byte* target_of(const Transfer& transfer) {
  return transfer.direction == Direction::kUp ? transfer.upper.address() : transfer.lower.address();
}

}  // namespace

ManualLink::~ManualLink() { PS_CHECK(pending_.empty()); }

void ManualLink::start(const Transfer& transfer) {
  PS_CHECK(sink_ != nullptr && transfer.bytes > 0 && transfer.bytes % kPayloadAlignment == 0);
  for (const Pending& other : pending_) PS_CHECK(other.transfer.id != transfer.id && other.transfer.payload != transfer.payload);
  pending_.push_back({transfer, std::vector<std::byte>(static_cast<std::size_t>(transfer.bytes))});
  std::memcpy(pending_.back().source.data(), source_of(transfer), static_cast<std::size_t>(transfer.bytes));
  std::memset(target_of(transfer), static_cast<int>(kGarbage), static_cast<std::size_t>(transfer.bytes));
}

ManualLink::Pending ManualLink::take(std::size_t i) {
  PS_CHECK(i < pending_.size());
  Pending taken = std::move(pending_[i]);
  pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(i));
  PS_CHECK(std::memcmp(taken.source.data(), source_of(taken.transfer), taken.source.size()) == 0);  // somebody wrote meanwhile
  return taken;
}

void ManualLink::complete(std::size_t i) {
  PS_CHECK(i < pending_.size());
  const Transfer& next = pending_[i].transfer;
  if (failures(next.direction).hit()) return fail(i);
  const Transfer transfer = take(i).transfer;
  std::memcpy(target_of(transfer), source_of(transfer), static_cast<std::size_t>(transfer.bytes));
  (transfer.direction == Direction::kUp ? bytes_up_ : bytes_down_) += transfer.bytes;
  sink_->transfer_done(transfer, {});
}

void ManualLink::fail(std::size_t i) {
  const Transfer transfer = take(i).transfer;
  sink_->transfer_done(
      transfer, Status(StatusCode::kIoError,
                       fmt::format("[{}] injected {} error", file_, transfer.direction == Direction::kUp ? "read" : "write")));
}

bool ManualLink::complete_random(std::mt19937& random) {
  if (pending_.empty()) return false;
  complete(random() % pending_.size());
  return true;
}

}  // namespace patrickstar
