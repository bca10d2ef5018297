#include "patrickstar/core/mem/layout_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace patrickstar {
namespace {

using testing::HasSubstr;

class LayoutIo : public testing::Test {
 protected:
  void TearDown() override { std::remove(path_.c_str()); }
  Result<ChosenLayout> load(const std::string& text) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << text;
    return load_layout(path_);
  }
  // The example with `from` replaced.
  Result<ChosenLayout> changed(const std::string& from, const std::string& to) {
    std::string text = layout_text(example_).value();
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return load(text.replace(at, from.size(), to));
  }

  const std::string path_ = testing::TempDir() + "/layout_io_test." + std::to_string(getpid()) + ".json";
  const ChosenLayout example_{.options = {.chunk_elems = 65536, .tile_elems = 16384},
                              .order = "first use",
                              .reason = "it is \"faster\"",
                              .tensors = {{"b.weight", 12}, {"a \u00e4", 7, Training::kFrozen}}};
};

TEST_F(LayoutIo, WhatIsWrittenIsRead) {
  const auto loaded = load(layout_text(example_).value());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded.value().options, example_.options);
  EXPECT_EQ(loaded.value().order, example_.order);
  EXPECT_EQ(loaded.value().reason, example_.reason);
  EXPECT_EQ(loaded.value().tensors, example_.tensors);
}

TEST_F(LayoutIo, ANameThatJsonCannotHoldIsRefused) {
  ChosenLayout latin1 = example_;
  latin1.tensors[0].name = "caf\xe9.weight";
  const auto text = layout_text(latin1);
  ASSERT_FALSE(text.ok());
  EXPECT_THAT(text.status().message(), HasSubstr("not UTF-8"));
}

TEST_F(LayoutIo, WhatIsWrongIsSaidWithTheFilesName) {
  const auto expect = [&](const Result<ChosenLayout>& loaded, const char* what) {
    ASSERT_FALSE(loaded.ok()) << what;
    EXPECT_EQ(loaded.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(loaded.status().message(), HasSubstr("[layout] " + path_ + ": "));
    EXPECT_THAT(loaded.status().message(), HasSubstr(what));
  };
  expect(load(""), "no JSON");
  expect(load(layout_text(example_).value().substr(0, 100)), "no JSON");
  expect(load("[]"), "\"format\"");
  expect(changed("layout 1", "layout 2"), "\"format\"");
  for (const char* wrong : {"0", "-1", "1.5", "\"65536\"", "null", "100000000000000000000"})
    expect(changed("65536", wrong), "\"chunk_elems\"");
  for (const char* wrong : {"0", "100", "-128"}) expect(changed("16384", wrong), "\"tile_elems\"");
  expect(changed("\"first use\"", "3"), "\"order\"");
  expect(changed("\"reason\"", "\"why\""), "\"reason\"");
  expect(changed("\"tensors\"", "\"tensor\""), "\"tensors\"");
  expect(changed("\"b.weight\"", "5"), "tensor 0 must have");
  expect(changed(": 7", ": 0"), "tensor 1 must have");
  expect(changed(": 7", ": 72057594037927935"), "tensor 1 must have");  // with the first more than 2^56
  expect(changed("\"frozen\"", "\"cold\""), "tensor 1 must have");
  expect(changed("b.weight", "a \u00e4"), "is there twice");
}

TEST_F(LayoutIo, WhatCannotBeReadIsAnIoErrorThatNamesIt) {
  for (const std::string path : {"/nonexistent/layout.json", "/"}) {
    const auto loaded = load_layout(path);
    EXPECT_EQ(loaded.status().code(), StatusCode::kIoError) << loaded.status().message();
    EXPECT_THAT(loaded.status().message(), HasSubstr("[layout] reading " + path));
  }
}

}  // namespace
}  // namespace patrickstar
