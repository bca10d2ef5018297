#include "patrickstar/core/trace/trace_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "patrickstar/core/testing/seed.h"

namespace patrickstar {
namespace {

using testing::HasSubstr;

// The example of docs/formats.md.
constexpr const char* kExample =
    "patrickstar-trace 1\n"
    "# one layer: forward, backward, update of its two tiles\n"
    "payloads\n"
    "p 8388608\n"
    "-\n"
    "s 12582912\n"
    "s 4096\n"
    "moments\n"
    "2000000 +65536 r0\n"
    "4000000 +1024 w0\n"
    "500000 -66560 w0 w2\n"
    "500 0 w0 w3\n"
    "end 4 4 6\n";

// The second example: the same with its tensors.
constexpr const char* kTensors =
    "tensors bf16 in-parameter deferred 1048576\n"
    "t 0 0 4194304 blocks.0.attention.qkv weight\n"
    "f 1 0 7 b\n";

std::string with_tensors(const std::string& tensors) {
  std::string text = kExample;
  return text.insert(text.find("moments\n"), tensors);
}

class TraceIoTest : public testing::Test {
 protected:
  TraceIoTest()
      : path_((std::filesystem::temp_directory_path() /
               (std::string("trace_io_test_") + testing::UnitTest::GetInstance()->current_test_info()->name() + "_" +
                std::to_string(std::random_device()())))
                  .string()) {}
  ~TraceIoTest() override { std::filesystem::remove(path_); }

  Result<Trace> load(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    return load_trace(path_);
  }
  std::string saved() {
    std::ifstream in(path_, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }
  // The example with one line replaced (counted from 1) must be refused with that line's number.
  void expect_refused(int line, const std::string& with, const std::string& text_of_message, int reported = 0) {
    std::istringstream in(kExample);
    std::string text;
    std::string each;
    for (int i = 1; std::getline(in, each); ++i) text += (i == line ? with : each) + "\n";
    const auto trace = load(text);
    ASSERT_FALSE(trace.ok()) << "line " << line << ": " << with;
    EXPECT_EQ(trace.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(trace.status().message(), HasSubstr(path_ + ":" + std::to_string(reported == 0 ? line : reported) + ": "));
    EXPECT_THAT(trace.status().message(), HasSubstr(text_of_message)) << with;
  }

  const std::string path_;
};

TEST_F(TraceIoTest, ReadsTheWorkedExample) {
  const auto loaded = load(kExample);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  const Trace& trace = loaded.value();
  ASSERT_EQ(trace.payloads.size(), 4u);
  EXPECT_EQ(trace.payloads[0].kind, PayloadKind::kParam);
  EXPECT_EQ(trace.payloads[1].bytes, 0);
  EXPECT_EQ(trace.payloads[2].kind, PayloadKind::kState);
  EXPECT_EQ(trace.payloads[2].bytes, 12'582'912);
  ASSERT_EQ(trace.moments.size(), 4u);
  EXPECT_EQ(trace.moments[1].non_model, 66'560);
  EXPECT_EQ(trace.moments[3].non_model, 0);
  EXPECT_EQ(trace.moments[2].compute, 500'000);
  ASSERT_EQ(trace.at(2).size(), 2u);
  EXPECT_EQ(trace.at(2)[1].payload, PayloadId(2u));
  EXPECT_EQ(trace.at(2)[1].mode, AccessMode::kWrite);
  EXPECT_EQ(trace.at(0)[0].mode, AccessMode::kRead);
}

TEST_F(TraceIoTest, TheTensorsBehindThePayloadsMayBeThere) {
  const auto loaded = load(with_tensors(kTensors));
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  const TracedModel& model = loaded.value().model;
  EXPECT_EQ(model.scheme, (ModelScheme{DType::kBFloat16, GradientPlacement::kInParameter}));
  EXPECT_EQ(model.updates, UpdateTiming::kDeferred);
  EXPECT_EQ(model.tile_elems, 1 << 20);
  ASSERT_EQ(model.tensors.size(), 2u);
  EXPECT_EQ(model.tensors[0].spec, (TensorSpec{"blocks.0.attention.qkv weight", 4194304, Training::kTrained}));
  EXPECT_EQ(model.tensors[1].spec, (TensorSpec{"b", 7, Training::kFrozen}));
  EXPECT_EQ(model.tensors[1].group, 1u);
  EXPECT_EQ(model.tensors[1].param, PayloadId(0u));
  ASSERT_EQ(loaded.value().moments.size(), 4u);
  ASSERT_TRUE(save_trace(loaded.value(), path_).ok());
  std::string without_comment = with_tensors(kTensors);
  const std::size_t comment = without_comment.find('#');
  without_comment.erase(comment, without_comment.find('\n', comment) + 1 - comment);
  EXPECT_EQ(saved(), without_comment);
}

TEST_F(TraceIoTest, MalformedTensorsAreRefusedWithTheirLine) {
  const auto refused = [&](const std::string& tensors, const std::string& where_and_what) {
    const auto trace = load(with_tensors(tensors));
    ASSERT_FALSE(trace.ok()) << tensors;
    EXPECT_THAT(trace.status().message(), HasSubstr(path_ + ":" + where_and_what)) << tensors;
  };
  for (const char* line : {"tensors", "tensors bf16 in-parameter deferred", "tensors bf17 in-parameter deferred 128",
                           "tensorsbf16", "tensors bf16 nowhere deferred 128", "tensors bf16 own-chunks never 128",
                           "tensors fp32 own-chunks at-step 0", "tensors fp32 own-chunks at-step 128 "})
    refused(std::string(line) + "\nt 0 0 1 a\n", "8: tensors have");
  refused("tensors fp32 own-chunks at-step 128\n", "9: \"tensors\" without one");
  for (const char* line :
       {"t 0 0 1", "t 0 0 1 ", "t 0 0 0 a", "t 0 0 72057594037927937 a", "t 0 -1 1 a", "t -1 0 1 a", "u 0 0 1 a", ""})
    refused("tensors fp32 own-chunks at-step 128\n" + std::string(line) + "\n", "9: a tensor is");
  for (const char* payload : {"1", "4"})
    refused("tensors fp32 own-chunks at-step 128\nt 0 " + std::string(payload) + " 1 a\n", "9: there is no payload");
}

TEST_F(TraceIoTest, ARandomTraceComesBackAndSoDoesItsFile) {
  std::mt19937_64 random(11);
  Trace trace;
  for (int i = 0; i < 400; ++i)
    trace.payloads.push_back(
        {static_cast<PayloadKind>(random() % 3), i % 7 == 3 ? 0 : static_cast<Bytes>(1 + random() % (1 << 25))});
  for (int i = 0; i < 5'000; ++i) {
    Moment moment{.first = static_cast<std::uint32_t>(trace.accesses.size()),
                  .non_model = static_cast<Bytes>(random() % (Bytes{1} << 33)),
                  .compute = static_cast<Nanos>(random() % 100'000'000)};
    while (random() % 3 != 0) {
      const PayloadId id(static_cast<std::size_t>(random() % 400));
      if (trace.bytes_of(id) == 0) continue;
      trace.accesses.push_back({id, static_cast<AccessMode>(random() % 3)});
      ++moment.count;
    }
    trace.moments.push_back(moment);
  }
  ASSERT_TRUE(save_trace(trace, path_).ok());
  const std::string text = saved();
  EXPECT_LT(text.size(), 200'000u);  // such traces are committed
  const auto loaded = load_trace(path_);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  ASSERT_EQ(loaded.value().moments.size(), trace.moments.size());
  for (std::size_t i = 0; i < trace.moments.size(); ++i) {
    ASSERT_EQ(loaded.value().moments[i].non_model, trace.moments[i].non_model);
    ASSERT_EQ(loaded.value().moments[i].compute, trace.moments[i].compute);
    ASSERT_EQ(loaded.value().at(i).size(), trace.at(i).size());
    for (std::size_t k = 0; k < trace.at(i).size(); ++k) {
      ASSERT_EQ(loaded.value().at(i)[k].payload, trace.at(i)[k].payload);
      ASSERT_EQ(loaded.value().at(i)[k].mode, trace.at(i)[k].mode);
    }
  }
  ASSERT_TRUE(save_trace(loaded.value(), path_).ok());
  EXPECT_EQ(saved(), text);
}

TEST_F(TraceIoTest, EveryMalformedLineIsRefusedWithItsNumber) {
  expect_refused(1, "patrickstar-trace 2", "first line");
  expect_refused(1, "# not here", "first line");
  expect_refused(3, "payload", "\"payloads\"");
  for (const char* line : {"",
                           "p",
                           "p ",
                           "p 0",
                           "p -1",
                           "p 08",
                           "p 1 ",
                           " p 1",
                           "p  1",
                           "p 1.5",
                           "p 0x10",
                           "p +1",
                           "P 1",
                           "q 1",
                           "pp 1",
                           "--",
                           "- ",
                           "p 1152921504606846977",
                           "p 99999999999999999999",
                           "p 1\r"})
    expect_refused(4, line, "a payload is");
  expect_refused(8, "10 0 r0", "a payload is");
  for (const char* line : {"", " ", "x", "-1 0 r0", "01 0", "1e3 0", " 1 0", "1000000000000000001 0"})
    expect_refused(9, line, "compute time");
  for (const char* line :
       {"1", "1 ", "1  r0", "1 5 r0", "1 -0", "1 +0", "1 +05", "1 --5", "1 -5", "1 r0", "1 +1152921504606846977"})
    expect_refused(9, line, "non-model");
  for (const char* line : {"1 0 ", "1 0 r0 "}) expect_refused(9, line, "space at the end");
  for (const char* line : {"1 0 x0", "1 0 r", "1 0 r01", "1 0 r-1", "1 0  r0", "1 0 r0  r2", "1 0 r4294967295", "1 0 r0\r"})
    expect_refused(9, line, "is no access");
  expect_refused(9, "1 +65536 r1", "no payload 1");
  expect_refused(9, "1 +65536 r4", "no payload 4");
  expect_refused(11, "1 -66561", "non-model");  // below zero
  for (const char* line : {"end", "end 4 4 5", "end 4 4 6 ", "ended"}) expect_refused(13, line, "end 4 4 6");
  expect_refused(13, "end 4 4 6\n\n", "nothing may follow", 14);
}

TEST_F(TraceIoTest, AFileCutShortAnywhereIsRefused) {
  const std::string whole = with_tensors(kTensors);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto trace = load(whole.substr(0, length));
    ASSERT_FALSE(trace.ok()) << length;
    ASSERT_EQ(trace.status().code(), StatusCode::kInvalidArgument);
  }
}

TEST_F(TraceIoTest, AnyOneByteChangedIsRefusedOrStillATrace) {
  const std::uint32_t seed = test_seed(12);
  std::mt19937 random(seed);
  const std::string alphabet = "0123456789 +-prgswce#\n\r\t";
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string text = with_tensors(kTensors);
    char& changed = text[random() % text.size()];
    changed = random() % 4 == 0 ? static_cast<char>(random() % 256) : alphabet[random() % alphabet.size()];
    const auto trace = load(text);
    if (!trace.ok()) {
      ASSERT_EQ(trace.status().code(), StatusCode::kInvalidArgument) << "seed " << seed << " case " << i;
      ++refused;
      continue;
    }
    ASSERT_TRUE(save_trace(trace.value(), path_).ok()) << "seed " << seed << " case " << i;
    ASSERT_TRUE(load_trace(path_).ok()) << "seed " << seed << " case " << i;
  }
  EXPECT_GT(refused, 250);
}

TEST_F(TraceIoTest, SumsAreBoundedToo) {
  expect_refused(6, "s 1152921504606846976", "a payload is");  // with those before it more than 2^60
  expect_refused(11, "1000000000000000000 0", "compute time");
}

TEST_F(TraceIoTest, WhatCannotBeOpenedIsAnIoErrorThatNamesIt) {
  for (const std::string path : {"/nonexistent/trace", "/"}) {
    const auto trace = load_trace(path);
    EXPECT_EQ(trace.status().code(), StatusCode::kIoError) << trace.status().message();
    EXPECT_THAT(trace.status().message(), HasSubstr(path));
    EXPECT_EQ(save_trace(Trace(), path).code(), StatusCode::kIoError);
  }
  EXPECT_EQ(save_trace(Trace(), "/dev/full").code(), StatusCode::kIoError);
}

TEST_F(TraceIoTest, WhatCouldNotBeReadAgainIsNotWritten) {
  Trace trace;
  trace.payloads = {{PayloadKind::kParam, 4096}, {}};
  trace.accesses = {{PayloadId(0u), AccessMode::kRead}};
  trace.moments = {{.first = 0, .count = 1}};
  ASSERT_TRUE(save_trace(trace, path_).ok());
  const auto refused = [&](auto change) {
    Trace other = trace;
    change(other);
    return save_trace(other, path_).code() == StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](Trace& t) { t.accesses[0].payload = PayloadId(1u); }));
  EXPECT_TRUE(refused([](Trace& t) { t.accesses[0].payload = PayloadId(2u); }));
  EXPECT_TRUE(refused([](Trace& t) { t.moments[0].count = 2; }));
  EXPECT_TRUE(refused([](Trace& t) { t.moments[0].count = 0; }));
  EXPECT_TRUE(refused([](Trace& t) { t.moments[0].first = 1; }));
  EXPECT_TRUE(refused([](Trace& t) { t.moments[0].compute = kMaxTraceNanos + 1; }));
  EXPECT_TRUE(refused([](Trace& t) { t.moments[0].non_model = -1; }));
  EXPECT_TRUE(refused([](Trace& t) { t.payloads[0].bytes = kMaxTraceBytes + 1; }));
  trace.model = {.tile_elems = 128, .tensors = {{.spec = {"a", 5}, .param = PayloadId(0u)}}};
  ASSERT_TRUE(save_trace(trace, path_).ok());
  ASSERT_TRUE(load_trace(path_).ok());
  EXPECT_TRUE(refused([](Trace& t) { t.model.tile_elems = 0; }));
  EXPECT_TRUE(refused([](Trace& t) { t.model.tensors[0].spec.name = ""; }));
  EXPECT_TRUE(refused([](Trace& t) { t.model.tensors[0].spec.name = "a\nb"; }));
  EXPECT_TRUE(refused([](Trace& t) { t.model.tensors[0].spec.elems = 0; }));
  EXPECT_TRUE(refused([](Trace& t) { t.model.tensors[0].param = PayloadId(1u); }));
}

}  // namespace
}  // namespace patrickstar
