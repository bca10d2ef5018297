#include "patrickstar/core/base/available_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace patrickstar {
namespace {

class AvailableMemory : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(root_);
    put("/proc/meminfo", "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  Bytes available() const { return available_memory(root_); }

  const std::string root_ = testing::TempDir() + "available_memory." + std::to_string(getpid());
};

constexpr Bytes kOfMachine = 20000000 * kKiB;

TEST_F(AvailableMemory, IsWhatTheMachineSaysWithoutLimits) {
  EXPECT_EQ(available(), kOfMachine);
  put("/proc/self/cgroup", "0::/\n");
  put("/sys/fs/cgroup/memory.max", "max\n");
  put("/sys/fs/cgroup/memory.current", "123\n");
  EXPECT_EQ(available(), kOfMachine);
  put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n");
  EXPECT_EQ(available(), kOfMachine);
}

TEST_F(AvailableMemory, IsUnknownWhereNothingSaysIt) {
  EXPECT_EQ(available_memory(root_ + "/nowhere"), -1);
  EXPECT_GT(available_memory(), 0) << "this machine does";
}

TEST_F(AvailableMemory, AContainersPageCacheIsNotUsed) {
  put("/proc/self/cgroup", "0::/\n");
  put("/sys/fs/cgroup/memory.max", "4294967296\n");
  put("/sys/fs/cgroup/memory.current", "4200000000\n");
  put("/sys/fs/cgroup/memory.stat", "anon 100\nfile 4000000000\ninactive_file 3900000000\nactive_file 7\n");
  EXPECT_EQ(available(), 4294967296 - 4200000000 + 3900000000);
}

TEST_F(AvailableMemory, AGroupsLimitCountsAndSoDoItsParents) {
  put("/proc/self/cgroup", "0::/slurm/job_7/step_0\n");
  put("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n");
  put("/sys/fs/cgroup/slurm/job_7/step_0/memory.current", "500\n");
  put("/sys/fs/cgroup/slurm/job_7/memory.max", "2000000000\n");
  put("/sys/fs/cgroup/slurm/job_7/memory.current", "500000000\n");
  EXPECT_EQ(available(), 1500000000);
  put("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "700\n");
  EXPECT_EQ(available(), 200);
  put("/sys/fs/cgroup/slurm/job_7/memory.current", "3000000000\n");
  EXPECT_EQ(available(), 0);
}

TEST_F(AvailableMemory, VersionOneHasItsOwnFilesAndLine) {
  put("/proc/self/cgroup", "9:cpu,cpuacct:/a\n4:memory,other:/docker/b\n0::/\n");
  put("/sys/fs/cgroup/memory/docker/b/memory.limit_in_bytes", "1000000000\n");
  put("/sys/fs/cgroup/memory/docker/b/memory.usage_in_bytes", "900000000\n");
  put("/sys/fs/cgroup/memory/docker/b/memory.stat", "inactive_file 1\ntotal_inactive_file 100000000\n");
  EXPECT_EQ(available(), 200000000);
}

}  // namespace
}  // namespace patrickstar
