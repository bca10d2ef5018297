#include "patrickstar/core/io/testing/link_fixture.h"

#include <sys/syscall.h>  // io_uring_setup, without liburing
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>

#include "patrickstar/core/base/check.h"

namespace patrickstar {
namespace {

constexpr const char* kTestDir = "PATRICKSTAR_TEST_DIR";

}  // namespace

TempDir::TempDir() {
  const char* const base = std::getenv(kTestDir);
  base_ = base != nullptr ? std::filesystem::path(base) : std::filesystem::current_path();
  std::string path = base_ / "io_test_XXXXXX";
  PS_CHECK(::mkdtemp(path.data()) != nullptr);
  path_ = path;
  PS_CHECK(::setenv(kTestDir, path.c_str(), 1) == 0);
}

TempDir::~TempDir() {
  ::setenv(kTestDir, base_.c_str(), 1);
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

int TempDir::entries() const {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) ++count;
  return count;
}

Buffer::Buffer(Bytes bytes)
    : size_(bytes),
      data_(static_cast<std::byte*>(
                std::aligned_alloc(kPayloadAlignment, static_cast<std::size_t>(round_up(bytes, kPayloadAlignment)))),
            &std::free) {
  PS_CHECK(data_ != nullptr);
  std::memset(data_.get(), 0, static_cast<std::size_t>(bytes));
}

void Buffer::fill_random(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (Bytes at = 0; at + 8 <= size_; at += 8) {
    const std::uint64_t word = random();
    std::memcpy(data_.get() + at, &word, sizeof word);
  }
}

bool operator==(const Buffer& a, const Buffer& b) {
  return a.size_ == b.size_ && std::memcmp(a.data_.get(), b.data_.get(), static_cast<std::size_t>(a.size_)) == 0;
}

std::string io_uring_refusal() {
  std::array<std::byte, 120> params{};  // struct io_uring_params
  const long fd = ::syscall(SYS_io_uring_setup, 4, params.data());
  if (fd < 0) return std::string("io_uring_setup: ") + std::strerror(errno);
  ::close(static_cast<int>(fd));
  return "";
}

void RecordingSink::transfer_done(const Transfer& transfer, Status status) {
  const std::lock_guard lock(mutex_);
  order_.push_back(transfer.id);
  statuses_.emplace(transfer.id, std::move(status));
  done_.notify_all();
}

void RecordingSink::wait_for(std::size_t n) {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return order_.size() >= n; });
}

std::vector<std::uint64_t> RecordingSink::order() const {
  const std::lock_guard lock(mutex_);
  return order_;
}

Status RecordingSink::status_of(std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  PS_CHECK(statuses_.count(id) == 1);
  return statuses_.find(id)->second;
}

std::size_t RecordingSink::failures() const {
  const std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const auto& [id, status] : statuses_) count += status.ok() ? 0 : 1;
  return count;
}

}  // namespace patrickstar
