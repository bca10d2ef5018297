#include "patrickstar/core/testing/counting_pages.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "patrickstar/core/base/check.h"

namespace patrickstar {

CountingPages::~CountingPages() { PS_CHECK(base_ == nullptr); }

Result<std::byte*> CountingPages::reserve(Bytes bytes) {
  PS_CHECK(base_ == nullptr && bytes % kPageBytes == 0);
  base_ = static_cast<std::byte*>(std::aligned_alloc(static_cast<std::size_t>(kPageBytes), static_cast<std::size_t>(bytes)));
  committed_.assign(static_cast<std::size_t>(bytes / kPageBytes), false);
  return base_;
}

void CountingPages::unreserve(std::byte* address, Bytes bytes) {
  PS_CHECK(address == base_ && bytes == static_cast<Bytes>(committed_.size()) * kPageBytes && committed_bytes_ == 0);
  std::free(base_);
  base_ = nullptr;
}

void CountingPages::mark(std::byte* address, Bytes bytes, bool committed) {
  const Bytes begin = address - base_;
  PS_CHECK(begin >= 0 && begin % kPageBytes == 0 && bytes > 0 && bytes % kPageBytes == 0);
  for (Bytes page = begin / kPageBytes; page < (begin + bytes) / kPageBytes; ++page) {
    PS_CHECK(committed_.at(static_cast<std::size_t>(page)) != committed);
    committed_[static_cast<std::size_t>(page)] = committed;
  }
  committed_bytes_ += committed ? bytes : -bytes;
  peak_bytes_ = std::max(peak_bytes_, committed_bytes_);
}

Status CountingPages::commit(std::byte* address, Bytes bytes) {
  if (commits_.hit()) return Status(StatusCode::kOutOfRoom, "[pages] injected refusal of a commit");
  mark(address, bytes, true);
  std::memset(address, 0, static_cast<std::size_t>(bytes));
  return {};
}

Status CountingPages::decommit(std::byte* address, Bytes bytes) {
  if (refused_decommits_.hit()) return Status(StatusCode::kOutOfRoom, "[pages] injected refusal of a decommit");
  mark(address, bytes, false);
  ++decommits_;
  std::memset(address, static_cast<int>(kPoison), static_cast<std::size_t>(bytes));
  return {};
}

Status CountingPages::move(std::byte* from, std::byte* to) {
  if (refused_moves_.hit()) return Status(StatusCode::kUnavailable, "[pages] injected refusal of a move");
  mark(from, kPageBytes, false);
  mark(to, kPageBytes, true);
  ++moves_;
  for (std::byte* page : {from, to}) std::memset(page, static_cast<int>(kPoison), static_cast<std::size_t>(kPageBytes));
  return {};
}

}  // namespace patrickstar
