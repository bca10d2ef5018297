// The least of any run of a fixed sequence that repeats for ever, in constant time (a sparse table).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "patrickstar/core/base/units.h"

namespace patrickstar {

class CyclicRangeMin {
 public:
  CyclicRangeMin() = default;
  explicit CyclicRangeMin(const std::vector<Bytes>& values) : size_(values.size()) {
    if (size_ == 0) return;
    table_.push_back(values);
    for (std::size_t width = 1; 2 * width <= size_; width *= 2) {
      const std::vector<Bytes>& half = table_.back();
      std::vector<Bytes> row(size_ - 2 * width + 1);
      for (std::size_t i = 0; i < row.size(); ++i) row[i] = std::min(half[i], half[i + width]);
      table_.push_back(std::move(row));
    }
  }

  // Over `count` values from `first` on, wrapping. REQUIRES: first < size, 0 < count.
  Bytes min(std::size_t first, std::size_t count) const {
    if (count >= size_) return within(0, size_);
    if (first + count <= size_) return within(first, first + count);
    return std::min(within(first, size_), within(0, first + count - size_));
  }

 private:
  Bytes within(std::size_t begin, std::size_t end) const {
    const auto row = static_cast<std::size_t>(std::bit_width(end - begin) - 1);
    return std::min(table_[row][begin], table_[row][end - (std::size_t{1} << row)]);
  }

  std::size_t size_ = 0;
  std::vector<std::vector<Bytes>> table_;  // row k: minima of runs of 2^k
};

}  // namespace patrickstar
