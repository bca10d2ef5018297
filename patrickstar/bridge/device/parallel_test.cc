#include "patrickstar/bridge/device/parallel.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

namespace patrickstar::bridge {
namespace {

TEST(TorchParallelFor, UsesAllIntraOpThreadsAndCoversEachIndexOnce) {
  at::set_num_threads(3);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::vector<int> times(1000, 0);
  torch_parallel_for()(1000, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) ++times[static_cast<std::size_t>(i)];
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(threads.size(), 3u);
  EXPECT_EQ(times, std::vector<int>(1000, 1));
}

TEST(TorchParallelFor, WhatIsBelowTheGrainStaysOnTheCallingThread) {
  at::set_num_threads(3);
  std::set<std::thread::id> threads;
  torch_parallel_for()(1000, 1000, [&](std::int64_t, std::int64_t) { threads.insert(std::this_thread::get_id()); });
  EXPECT_EQ(threads, std::set<std::thread::id>{std::this_thread::get_id()});
}

TEST(ParallelCopy, CopiesEveryByte) {
  at::set_num_threads(3);
  std::vector<std::uint32_t> from(500'001), to(500'001, 0);
  std::iota(from.begin(), from.end(), 1u);
  parallel_copy(to.data(), from.data(), static_cast<std::int64_t>(from.size() * 4));
  EXPECT_EQ(to, from);
}

}  // namespace
}  // namespace patrickstar::bridge
