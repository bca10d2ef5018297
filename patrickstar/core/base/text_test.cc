#include "patrickstar/core/base/text.h"

#include <gtest/gtest.h>

namespace patrickstar {
namespace {

TEST(Text, ParsesSizesAsPeopleWriteThem) {
  EXPECT_EQ(parse_bytes("1.5GiB").value(), 3 * kGiB / 2);
  EXPECT_EQ(parse_bytes("800 MiB").value(), 800 * kMiB);
  EXPECT_EQ(parse_bytes("2GB").value(), 2'000'000'000);
  EXPECT_EQ(parse_bytes("64k").value(), 64 * kKiB);
  EXPECT_EQ(parse_bytes("4096").value(), 4096);
  EXPECT_EQ(parse_bytes("10b").value(), 10);
}

TEST(Text, RefusesWhatIsNotASize) {
  for (const char* text : {"", "GiB", "-1", "1.5XB", "1GiBs", "nan", "inf", "1e30"}) {
    const auto result = parse_bytes(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_NE(result.status().message().find(std::string("\"") + text + "\""), std::string::npos) << result.status().message();
  }
}

TEST(Text, FormatsInTheLargestUnit) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(12 * kMiB), "12.0 MiB");
  EXPECT_EQ(format_bytes(3 * kGiB / 2), "1.50 GiB");
}

}  // namespace
}  // namespace patrickstar
