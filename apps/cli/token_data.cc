#include "apps/cli/token_data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace patrickstar::cli {
namespace {

constexpr std::int32_t kLlmcMagic = 20240520;
constexpr std::size_t kLlmcHeaderBytes = 1024;

Status bad(const std::string& text) { return Status(StatusCode::kInvalidArgument, "[data] " + text); }

}  // namespace

TokenData::TokenData(TokenData&& other) noexcept
    : path_(std::move(other.path_)),
      map_(std::exchange(other.map_, nullptr)),
      map_bytes_(other.map_bytes_),
      bytes_(other.bytes_),
      words_(other.words_),
      count_(other.count_),
      width_(other.width_) {}

TokenData::~TokenData() {
  if (map_ != nullptr) munmap(map_, map_bytes_);
}

Result<TokenData> TokenData::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return bad(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return bad(path + " is not a file");
  }
  if (info.st_size == 0) {
    ::close(fd);
    return bad(path + " is empty");
  }
  TokenData data;
  data.path_ = path;
  data.map_bytes_ = static_cast<std::size_t>(info.st_size);
  void* map = mmap(nullptr, data.map_bytes_, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  if (map == MAP_FAILED) return bad(fmt::format("cannot map {}: {}", path, std::strerror(error)));
  data.map_ = map;
  data.bytes_ = static_cast<const std::uint8_t*>(map);
  data.count_ = static_cast<std::int64_t>(data.map_bytes_);
  if (!path.ends_with(".bin")) return data;

  data.width_ = 2;
  if (data.map_bytes_ % 2 != 0)
    return bad(fmt::format("{} has an odd number of bytes ({}): not uint16 tokens", path, data.map_bytes_));
  std::int32_t header[3] = {};
  if (data.map_bytes_ >= sizeof(header)) std::memcpy(header, map, sizeof(header));
  std::size_t skip = 0;
  if (header[0] == kLlmcMagic) {
    if (data.map_bytes_ <= kLlmcHeaderBytes) return bad(path + " has llm.c's header and no tokens");
    skip = kLlmcHeaderBytes;
    const auto there = static_cast<std::int64_t>((data.map_bytes_ - skip) / 2);
    if (header[1] != 1) return bad(fmt::format("{}: version {} of llm.c's format; version 1 (uint16) is read", path, header[1]));
    if (header[2] != there)
      return bad(fmt::format("{}: its header says {} tokens, the file has {}: truncated?", path, header[2], there));
  }
  data.words_ = reinterpret_cast<const std::uint16_t*>(data.bytes_ + skip);
  data.count_ = static_cast<std::int64_t>((data.map_bytes_ - skip) / 2);
  return data;
}

Status TokenData::check(std::int64_t sequence_length, std::int64_t vocab_size) const {
  if (count_ < sequence_length + 1) {
    return bad(fmt::format("{} has {} tokens: fewer than a sequence of {} and its targets need", path_, count_, sequence_length));
  }
  for (std::int64_t i = 0; i < count_; ++i) {
    if (token(i) >= vocab_size) {
      return bad(
          fmt::format("{}: token {} at position {} is outside the vocabulary of {}; give a matching --model or --vocab-size",
                      path_, token(i), i, vocab_size));
    }
  }
  return {};
}

BatchSampler::BatchSampler(const TokenData& data, Part part, std::int64_t batch_size, std::int64_t sequence_length,
                           std::uint64_t seed)
    : data_(data),
      batch_size_(batch_size),
      sequence_length_(sequence_length),
      random_(seed + (part == Part::kValidation ? 0x9e3779b97f4a7c15u : 0)) {
  const std::int64_t cut = data.size() / 10 * 9;
  std::int64_t end = data.size();
  if (data.size() - cut > sequence_length && cut > sequence_length) (part == Part::kTraining ? end : begin_) = cut;
  places_ = end - begin_ - sequence_length;
}

Batch BatchSampler::next() {
  Batch batch;
  for (std::int64_t b = 0; b < batch_size_; ++b) {
    // The modulo's bias is at most places / 2^64.
    const std::int64_t at = begin_ + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(places_));
    for (std::int64_t i = 0; i < sequence_length_; ++i) {
      batch.tokens.push_back(data_.token(at + i));
      batch.targets.push_back(data_.token(at + i + 1));
    }
  }
  return batch;
}

}  // namespace patrickstar::cli
