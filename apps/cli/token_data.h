// TokenData: a file of tokens, and random batches from it. No LibTorch here. Read, not mapped: pages of a mapped file would count
// as memory that the process holds.
//
// A .bin file holds uint16 tokens: nanoGPT's begins at once; llm.c's has a header of 256 int32 with the magic number 20240520
// (github.com/karpathy/llm.c, dataloader) and the number of tokens in the third. Any other file is text: its bytes are the
// tokens.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "patrickstar/core/base/status.h"

namespace patrickstar::cli {

class TokenData {
 public:
  // Errors, in one line with the file's name: missing, empty, an odd or lying .bin.
  static Result<TokenData> open(const std::string& path);
  TokenData(TokenData&& other) noexcept;
  TokenData& operator=(TokenData&&) = delete;
  ~TokenData();

  std::int64_t size() const { return count_; }
  const std::string& path() const { return path_; }
  // The tokens from `begin` on, as many as go into `tokens`. Errors: the file cannot be read, or has become shorter.
  Status read(std::int64_t begin, std::span<std::uint16_t> tokens) const;
  // Errors: fewer tokens than a sequence and its targets need; a token outside the vocabulary, with its place; those of read().
  Status check(std::int64_t sequence_length, std::int64_t vocab_size) const;

 private:
  TokenData() = default;
  Status read_bytes(std::int64_t offset, void* to, std::int64_t bytes) const;

  std::string path_;
  int fd_ = -1;
  std::int64_t first_byte_ = 0;
  std::int64_t count_ = 0;
  int width_ = 1;  // bytes a token
};

struct Batch {
  std::vector<std::int64_t> tokens;   // [batch, sequence]
  std::vector<std::int64_t> targets;  // the same, one token on
};

// Sequences from random places: of the first nine tenths for training, of the rest for validation (where that is long enough;
// else of all). The same seed gives the same batches.
class BatchSampler {
 public:
  enum class Part : std::uint8_t { kTraining, kValidation };
  BatchSampler(const TokenData& data, Part part, std::int64_t batch_size, std::int64_t sequence_length, std::uint64_t seed);
  // Errors: those of TokenData::read().
  Result<Batch> next();

 private:
  const TokenData& data_;
  const std::int64_t batch_size_;
  const std::int64_t sequence_length_;
  std::int64_t begin_ = 0;
  std::int64_t places_ = 0;
  std::mt19937_64 random_;
};

}  // namespace patrickstar::cli
