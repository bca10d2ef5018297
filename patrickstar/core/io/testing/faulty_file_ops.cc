#include "patrickstar/core/io/testing/faulty_file_ops.h"

#include <algorithm>

#include "patrickstar/core/base/check.h"

namespace patrickstar {
namespace {

constexpr Bytes kBlock = 4096;  // what O_DIRECT moves at least

FileCall call_of(IoKind kind) { return kind == IoKind::kRead ? FileCall::kRead : FileCall::kWrite; }

}  // namespace

bool FaultyFileOps::Rule::hits() { return every > 0 && ++seen % every == 0; }

void FaultyFileOps::fail_every(FileCall call, std::int64_t n, int error) {
  const std::lock_guard lock(mutex_);
  state(call).fail = {.every = n};
  state(call).error = error;
}

void FaultyFileOps::shorten_every(FileCall call, std::int64_t n, Bytes at_most) {
  PS_CHECK(call == FileCall::kRead || call == FileCall::kWrite);
  const std::lock_guard lock(mutex_);
  state(call).shorten = {.every = n};
  state(call).at_most = at_most;
}

void FaultyFileOps::set_free_bytes(Bytes bytes) {
  const std::lock_guard lock(mutex_);
  free_bytes_ = bytes;
}

void FaultyFileOps::hold(FileCall call) {
  const std::lock_guard lock(mutex_);
  state(call).holding = true;
}

void FaultyFileOps::release(FileCall call) {
  const std::lock_guard lock(mutex_);
  state(call).holding = false;
  changed_.notify_all();
}

void FaultyFileOps::wait_until_held(FileCall call, int n) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return state(call).held >= n; });
}

std::int64_t FaultyFileOps::calls(FileCall call) const {
  const std::lock_guard lock(mutex_);
  return state(call).calls;
}

std::int64_t FaultyFileOps::injected(FileCall call) const {
  const std::lock_guard lock(mutex_);
  return state(call).injected;
}

std::int64_t FaultyFileOps::open_files() const {
  const std::lock_guard lock(mutex_);
  return open_files_;
}

// Counts a call, holds it at the gate, and returns the errno with which it is to fail, or 0.
int FaultyFileOps::pass(FileCall call) {
  std::unique_lock lock(mutex_);
  State& s = state(call);
  ++s.calls;
  if (s.holding) {
    ++s.held;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !s.holding; });
    --s.held;
  }
  if (!s.fail.hits()) return 0;
  ++s.injected;
  return s.error;
}

Bytes FaultyFileOps::shortened(FileCall call, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  State& s = state(call);
  if (!s.shorten.hits() || s.at_most >= bytes) return bytes;
  ++s.injected;
  return s.at_most;
}

int FaultyFileOps::open_scratch(const std::string& directory) {
  if (const int error = pass(FileCall::kOpen); error != 0) return -error;
  const int fd = real_.open_scratch(directory);
  const std::lock_guard lock(mutex_);
  if (fd >= 0) ++open_files_;
  return fd;
}

int FaultyFileOps::set_caching(int fd, Caching caching) {
  const int error = pass(FileCall::kSetCaching);
  return error != 0 ? -error : real_.set_caching(fd, caching);
}

int FaultyFileOps::preallocate(int fd, Bytes from, Bytes to) {
  const int error = pass(FileCall::kPreallocate);
  return error != 0 ? -error : real_.preallocate(fd, from, to);
}

Bytes FaultyFileOps::free_bytes(const std::string& directory) {
  {
    const std::lock_guard lock(mutex_);
    if (free_bytes_.has_value()) return *free_bytes_;
  }
  return real_.free_bytes(directory);
}

std::int64_t FaultyFileOps::pread(int fd, std::byte* data, Bytes bytes, Bytes offset) {
  if (const int error = pass(FileCall::kRead); error != 0) return -error;
  const Bytes most = shortened(FileCall::kRead, bytes);
  // O_DIRECT takes whole blocks only: move what rounds up and report less.
  const std::int64_t result = real_.pread(fd, data, std::min(bytes, round_up(most, kBlock)), offset);
  return std::min<std::int64_t>(result, most);
}

std::int64_t FaultyFileOps::pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) {
  if (const int error = pass(FileCall::kWrite); error != 0) return -error;
  const Bytes most = shortened(FileCall::kWrite, bytes);
  const std::int64_t result = real_.pwrite(fd, data, std::min(bytes, round_up(most, kBlock)), offset);
  return std::min<std::int64_t>(result, most);
}

void FaultyFileOps::close(int fd) {
  real_.close(fd);
  const std::lock_guard lock(mutex_);
  --open_files_;
}

Bytes FaultyFileOps::submitting(IoKind kind, Bytes bytes) {
  return std::min(bytes, round_up(shortened(call_of(kind), bytes), kBlock));
}

std::int64_t FaultyFileOps::completed(IoKind kind, std::int64_t result) {
  const int error = pass(call_of(kind));
  return error != 0 ? -error : result;
}

}  // namespace patrickstar
