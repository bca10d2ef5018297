// Room by moment of the cyclic step: taken and given back over runs of moments. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "patrickstar/core/base/units.h"

namespace patrickstar {

// What is left at each moment of the step, with the least of any run in logarithmic time: a segment tree with lazy additions.
class Occupancy {
 public:
  Occupancy() = default;
  explicit Occupancy(const std::vector<Bytes>& room) : size_(room.size()), min_(4 * room.size()), added_(4 * room.size(), 0) {
    if (size_ > 0) build(1, 0, size_, room);
  }
  // The least room over the moments strictly between `from` and `to`, going round; the whole step but `from` if they are equal.
  Bytes room_between(std::uint32_t from, std::uint32_t to) const {
    Bytes least = INT64_MAX;
    each_run(from, to, [&](std::size_t begin, std::size_t end) { least = std::min(least, min_of(1, 0, size_, begin, end)); });
    return least;
  }
  void take_between(std::uint32_t from, std::uint32_t to, Bytes bytes) {
    each_run(from, to, [&](std::size_t begin, std::size_t end) { add(1, 0, size_, begin, end, -bytes); });
  }
  // Over the moments [from, from + count), going round. REQUIRES: from < size, 0 < count <= size.
  Bytes room_in(std::size_t from, std::size_t count) const {
    Bytes least = INT64_MAX;
    each_part(from, count, [&](std::size_t begin, std::size_t end) { least = std::min(least, min_of(1, 0, size_, begin, end)); });
    return least;
  }
  void take_in(std::size_t from, std::size_t count, Bytes bytes) {
    each_part(from, count, [&](std::size_t begin, std::size_t end) { add(1, 0, size_, begin, end, -bytes); });
  }
  Bytes least() const { return min_[1]; }

 private:
  template <class F>
  void each_run(std::uint32_t from, std::uint32_t to, F&& f) const {
    if (from < to) {
      if (from + 1 < to) f(from + 1, to);
      return;
    }
    if (from + 1 < size_) f(from + 1, size_);
    if (to > 0) f(0, to);
  }
  template <class F>
  void each_part(std::size_t from, std::size_t count, F&& f) const {
    f(from, std::min(from + count, size_));
    if (from + count > size_) f(0, from + count - size_);
  }
  void build(std::size_t node, std::size_t begin, std::size_t end, const std::vector<Bytes>& room) {
    if (end - begin == 1) {
      min_[node] = room[begin];
      return;
    }
    const std::size_t middle = (begin + end) / 2;
    build(2 * node, begin, middle, room);
    build(2 * node + 1, middle, end, room);
    min_[node] = std::min(min_[2 * node], min_[2 * node + 1]);
  }
  Bytes min_of(std::size_t node, std::size_t begin, std::size_t end, std::size_t from, std::size_t to) const {
    if (from >= end || to <= begin) return INT64_MAX;
    if (from <= begin && end <= to) return min_[node];
    const std::size_t middle = (begin + end) / 2;
    return added_[node] + std::min(min_of(2 * node, begin, middle, from, to), min_of(2 * node + 1, middle, end, from, to));
  }
  void add(std::size_t node, std::size_t begin, std::size_t end, std::size_t from, std::size_t to, Bytes bytes) {
    if (from >= end || to <= begin) return;
    if (from <= begin && end <= to) {
      min_[node] += bytes;
      added_[node] += bytes;
      return;
    }
    const std::size_t middle = (begin + end) / 2;
    add(2 * node, begin, middle, from, to, bytes);
    add(2 * node + 1, middle, end, from, to, bytes);
    min_[node] = added_[node] + std::min(min_[2 * node], min_[2 * node + 1]);
  }

  std::size_t size_ = 0;
  std::vector<Bytes> min_;
  std::vector<Bytes> added_;
};

}  // namespace patrickstar
