#include "patrickstar/core/base/processor.h"

#include <gtest/gtest.h>

#include <fstream>

namespace patrickstar {
namespace {

std::string name_in(const std::string& text) {
  const std::string path = testing::TempDir() + "cpuinfo";
  std::ofstream(path) << text;
  return processor_name(path);
}

TEST(Processor, IsNamedWithItsFamily) {
  EXPECT_EQ(
      name_in("processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nflags\t\t: a b\n\nprocessor\t: 1\nmodel "
              "name\t: other\n"),
      "AMD EPYC, family 26 model 2");
  EXPECT_EQ(name_in("model name\t: Some\n"), "Some");
  EXPECT_EQ(name_in(""), "unknown");
  EXPECT_NE(processor_name(), "");
}

}  // namespace
}  // namespace patrickstar
