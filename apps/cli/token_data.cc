#include "apps/cli/token_data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace patrickstar::cli {
namespace {

constexpr std::int32_t kLlmcMagic = 20240520;
constexpr std::int64_t kLlmcHeaderBytes = 1024;
constexpr std::int64_t kTokensAtATime = 512 * 1024;

Status bad(const std::string& text) { return Status(StatusCode::kInvalidArgument, "[data] " + text); }

}  // namespace

TokenData::TokenData(TokenData&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      first_byte_(other.first_byte_),
      count_(other.count_),
      width_(other.width_) {}

TokenData::~TokenData() {
  if (fd_ >= 0) ::close(fd_);
}

Result<TokenData> TokenData::open(const std::string& path) {
  TokenData data;
  data.path_ = path;
  data.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (data.fd_ < 0) return bad(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  struct stat info {};
  if (fstat(data.fd_, &info) != 0 || !S_ISREG(info.st_mode)) return bad(path + " is not a file");
  if (info.st_size == 0) return bad(path + " is empty");
  data.count_ = info.st_size;
  if (!path.ends_with(".bin")) return data;

  data.width_ = 2;
  if (info.st_size % 2 != 0) return bad(fmt::format("{} has an odd number of bytes ({}): not uint16 tokens", path, info.st_size));
  std::int32_t header[3] = {};
  if (info.st_size >= static_cast<off_t>(sizeof(header))) PS_RETURN_IF_ERROR(data.read_bytes(0, header, sizeof(header)));
  if (header[0] == kLlmcMagic) {
    if (info.st_size <= kLlmcHeaderBytes) return bad(path + " has llm.c's header and no tokens");
    data.first_byte_ = kLlmcHeaderBytes;
    const std::int64_t there = (info.st_size - kLlmcHeaderBytes) / 2;
    if (header[1] != 1) return bad(fmt::format("{}: version {} of llm.c's format; version 1 (uint16) is read", path, header[1]));
    if (header[2] != there)
      return bad(fmt::format("{}: its header says {} tokens, the file has {}: truncated?", path, header[2], there));
  }
  data.count_ = (info.st_size - data.first_byte_) / 2;
  return data;
}

Status TokenData::read_bytes(std::int64_t offset, void* to, std::int64_t bytes) const {
  for (std::int64_t done = 0; done < bytes;) {
    const ssize_t got = pread(fd_, static_cast<char*>(to) + done, static_cast<std::size_t>(bytes - done), offset + done);
    if (got > 0) {
      done += got;
    } else if (got == 0) {
      return bad(path_ + " has become shorter since it was opened");
    } else if (errno != EINTR) {
      return bad(fmt::format("cannot read {}: {}", path_, std::strerror(errno)));
    }
  }
  return {};
}

Status TokenData::read(std::int64_t begin, std::span<std::uint16_t> tokens) const {
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (width_ == 2) return read_bytes(first_byte_ + 2 * begin, tokens.data(), 2 * count);
  std::vector<std::uint8_t> bytes(tokens.size());
  PS_RETURN_IF_ERROR(read_bytes(begin, bytes.data(), count));
  std::copy(bytes.begin(), bytes.end(), tokens.begin());
  return {};
}

Status TokenData::check(std::int64_t sequence_length, std::int64_t vocab_size) const {
  if (count_ < sequence_length + 1) {
    return bad(fmt::format("{} has {} tokens: fewer than a sequence of {} and its targets need", path_, count_, sequence_length));
  }
  std::vector<std::uint16_t> tokens;
  for (std::int64_t begin = 0; begin < count_; begin += kTokensAtATime) {
    tokens.resize(static_cast<std::size_t>(std::min(kTokensAtATime, count_ - begin)));
    PS_RETURN_IF_ERROR(read(begin, tokens));
    const auto outside = std::find_if(tokens.begin(), tokens.end(), [&](std::uint16_t token) { return token >= vocab_size; });
    if (outside == tokens.end()) continue;
    return bad(fmt::format("{}: token {} at position {} is outside the vocabulary of {}; give a matching --model or --vocab-size",
                           path_, *outside, begin + (outside - tokens.begin()), vocab_size));
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

Result<Batch> BatchSampler::next() {
  Batch batch;
  std::vector<std::uint16_t> sequence(static_cast<std::size_t>(sequence_length_) + 1);
  for (std::int64_t b = 0; b < batch_size_; ++b) {
    // The modulo's bias is at most places / 2^64.
    const std::int64_t at = begin_ + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(places_));
    PS_RETURN_IF_ERROR(data_.read(at, sequence));
    batch.tokens.insert(batch.tokens.end(), sequence.begin(), sequence.end() - 1);
    batch.targets.insert(batch.targets.end(), sequence.begin() + 1, sequence.end());
  }
  return batch;
}

}  // namespace patrickstar::cli
