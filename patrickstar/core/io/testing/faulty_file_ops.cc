#include "patrickstar/core/io/testing/faulty_file_ops.h"

#include <algorithm>

#include "patrickstar/core/base/check.h"

namespace patrickstar {

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

FaultyFileOps::Fate FaultyFileOps::pass(FileCall call) {
  std::unique_lock lock(mutex_);
  State& s = state(call);
  ++s.calls;
  if (s.holding) {
    ++s.held;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !s.holding; });
    --s.held;
  }
  Fate fate;
  if (s.fail.hits()) {
    fate.error = s.error;
  } else if (s.shorten.hits()) {
    fate.at_most = s.at_most;
  }
  if (fate.error != 0 || fate.at_most.has_value()) ++s.injected;
  return fate;
}

int FaultyFileOps::open_scratch(const std::string& directory) {
  if (const Fate fate = pass(FileCall::kOpen); fate.error != 0) return -fate.error;
  const int fd = real_.open_scratch(directory);
  const std::lock_guard lock(mutex_);
  if (fd >= 0) ++open_files_;
  return fd;
}

int FaultyFileOps::set_caching(int fd, Caching caching) {
  const Fate fate = pass(FileCall::kSetCaching);
  return fate.error != 0 ? -fate.error : real_.set_caching(fd, caching);
}

int FaultyFileOps::preallocate(int fd, Bytes from, Bytes to) {
  const Fate fate = pass(FileCall::kPreallocate);
  return fate.error != 0 ? -fate.error : real_.preallocate(fd, from, to);
}

Bytes FaultyFileOps::free_bytes(const std::string& directory) {
  {
    const std::lock_guard lock(mutex_);
    if (free_bytes_.has_value()) return *free_bytes_;
  }
  return real_.free_bytes(directory);
}

std::int64_t FaultyFileOps::pread(int fd, std::byte* data, Bytes bytes, Bytes offset) {
  const Fate fate = pass(FileCall::kRead);
  if (fate.error != 0) return -fate.error;
  const Bytes most = std::min(bytes, fate.at_most.value_or(bytes));
  // O_DIRECT takes whole blocks only: read what rounds up and report less.
  const std::int64_t result = real_.pread(fd, data, std::min(bytes, round_up(most, 4096)), offset);
  return std::min<std::int64_t>(result, most);
}

std::int64_t FaultyFileOps::pwrite(int fd, const std::byte* data, Bytes bytes, Bytes offset) {
  const Fate fate = pass(FileCall::kWrite);
  if (fate.error != 0) return -fate.error;
  const Bytes most = std::min(bytes, fate.at_most.value_or(bytes));
  const std::int64_t result = real_.pwrite(fd, data, std::min(bytes, round_up(most, 4096)), offset);
  return std::min<std::int64_t>(result, most);
}

void FaultyFileOps::close(int fd) {
  real_.close(fd);
  const std::lock_guard lock(mutex_);
  --open_files_;
}

std::int64_t FaultyFileOps::completed(IoKind kind, std::int64_t result) {
  const Fate fate = pass(kind == IoKind::kRead ? FileCall::kRead : FileCall::kWrite);
  if (fate.error != 0) return -fate.error;
  return std::min<std::int64_t>(result, fate.at_most.value_or(result));
}

}  // namespace patrickstar
