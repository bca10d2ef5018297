// Fused AdamW and its helpers against memory: parameters/s, and the fraction of an in-place x = a * x pass over as many bytes,
// measured alternately in the same run. Both forms of the update move 28 bytes a parameter:
//   bf16: gradient in and parameter out (2 + 2, the same array), master, momentum, variance in and out (3 x 8)
//   fp32: gradient in (4), parameter, momentum, variance in and out (3 x 8)
//
//   adam_bench [--benchmark_filter=...]          medians over the iterations; state lies in tiles of 1 Mi parameters
#include <benchmark/benchmark.h>

#include <memory>
#include <string>

#include "bench/micro/adam_setup.h"
#include "patrickstar/core/optim/adamw.h"
#include "patrickstar/core/optim/convert.h"
#include "patrickstar/core/optim/grad_norm.h"

namespace patrickstar::bench {
namespace {

constexpr Elems kTileElems = Elems{1} << 20;
constexpr Elems kColdElems = 96 * kTileElems;  // 1.3 to 1.5 GiB: far beyond any cache
constexpr int kMovedBytes = 28;

// Tiles of (master, momentum, variance) side by side, gradients in an array of their own.
struct State {
  State(Elems n, DType dtype, Pages pages)
      : elems(n), grad_dtype(dtype), grads(n * dtype_bytes(dtype), pages), tiles(n * 12, pages) {
    for (Elems i = 0; i < n; ++i) {
      const float g = 1e-3f * static_cast<float>(i % 1009 - 504);
      if (dtype == DType::kFloat32) reinterpret_cast<float*>(grads.at(0))[i] = g;
    }
    for (Elems i = 0; i < 3 * n; ++i) reinterpret_cast<float*>(tiles.at(0))[i] = 1e-2f * static_cast<float>(i % 127 + 1);
    if (dtype == DType::kBFloat16) round_to_bf16(reinterpret_cast<const float*>(tiles.at(0)), grads.at(0), n);
  }
  AdamWRange range(Elems first, Elems count) const {
    const Elems stride = std::min(kTileElems, elems);
    auto* tile = reinterpret_cast<float*>(tiles.at(first / stride * stride * 12)) + first % stride;
    char* grad = grads.at(first * dtype_bytes(grad_dtype));
    return {grad, grad_dtype, tile, tile + stride, tile + 2 * stride, grad_dtype == DType::kBFloat16 ? grad : nullptr, count};
  }

  Elems elems;
  DType grad_dtype;
  Buffer grads;
  Buffer tiles;
};

struct Threads {
  explicit Threads(std::int64_t n) : pool(n == 2 ? std::make_unique<TwoThreads>() : nullptr) {
    parallel_for = pool ? pool->parallel_for() : ParallelFor(serial_for);
  }
  std::unique_ptr<TwoThreads> pool;
  ParallelFor parallel_for;
};

void scale_bytes(const Buffer& buffer, Bytes bytes, const ParallelFor& parallel_for) {
  volatile float one = 1;  // the values stay what they are
  auto* x = reinterpret_cast<float*>(buffer.at(0));
  parallel_for(bytes / 64, 1024, [&, a = float{one}](std::int64_t b, std::int64_t e) { scale_in_place(x, b * 16, e * 16, a); });
}

// Alternates the update with the yardstick until Google Benchmark has enough of them.
void update(benchmark::State& state, DType dtype, Elems elems, Pages pages) {
  const State s(elems, dtype, pages);
  const Buffer yardstick(elems * kMovedBytes / 2, pages);  // read and written: half the bytes
  const Threads threads(state.range(0));
  const int passes = static_cast<int>(std::max<Elems>(1, 8 * kTileElems / elems));  // a hot tile is done several times over
  std::vector<double> update_s, scale_s;
  std::int64_t step = 0;
  for (int warm = 0; warm < 2; ++warm) scale_bytes(yardstick, elems * kMovedBytes / 2, threads.parallel_for);
  for (auto _ : state) {
    scale_s.push_back(seconds_of([&] {
      for (int i = 0; i < passes; ++i) scale_bytes(yardstick, elems * kMovedBytes / 2, threads.parallel_for);
    }));
    update_s.push_back(seconds_of([&] {
      for (int i = 0; i < passes; ++i) {
        const AdamWFactors factors = adamw_factors({}, ++step, 1.0);
        for (Elems at = 0; at < elems; at += kTileElems) {
          adamw_update(s.range(at, std::min(kTileElems, elems - at)), factors, threads.parallel_for);
        }
      }
    }));
    state.SetIterationTime(update_s.back());
  }
  const double seconds = median(update_s) / passes;
  state.counters["Mparam/s"] = static_cast<double>(elems) / seconds * 1e-6;
  state.counters["GB/s"] = static_cast<double>(elems) * kMovedBytes / seconds * 1e-9;
  state.counters["of_scale_pass"] = median(scale_s) / passes / seconds;
  state.SetLabel(adamw_simd_target());
}

void norm(benchmark::State& state, DType dtype, Elems elems) {
  const State s(elems, dtype, Pages::kHuge);
  const Threads threads(state.range(0));
  std::vector<double> norm_s;
  for (auto _ : state) {
    norm_s.push_back(
        seconds_of([&] { benchmark::DoNotOptimize(sum_of_squares(s.grads.at(0), dtype, elems, threads.parallel_for)); }));
    state.SetIterationTime(norm_s.back());
  }
  state.counters["GB/s"] = static_cast<double>(elems * dtype_bytes(dtype)) / median(norm_s) * 1e-9;
}

enum class Conversion { kRound, kWiden, kReseed };

void convert(benchmark::State& state, Conversion conversion) {
  const Elems elems = kColdElems / 3;
  const State s(elems, DType::kBFloat16, Pages::kHuge);
  const Threads threads(state.range(0));
  auto* wide = reinterpret_cast<float*>(s.tiles.at(0));
  std::vector<double> convert_s;
  for (auto _ : state) {
    convert_s.push_back(seconds_of([&] {
      if (conversion == Conversion::kRound) round_to_bf16(wide, s.grads.at(0), elems, threads.parallel_for);
      if (conversion == Conversion::kWiden) widen_bf16(s.grads.at(0), wide, elems, threads.parallel_for);
      if (conversion == Conversion::kReseed) reseed_master(s.grads.at(0), wide, elems, threads.parallel_for);
    }));
    state.SetIterationTime(convert_s.back());
  }
  state.counters["GB/s"] = static_cast<double>(elems * 6) / median(convert_s) * 1e-9;
}

void threads_1_2(benchmark::internal::Benchmark* b) {
  b->ArgName("threads")->Arg(1)->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond)->MinTime(2);
}

BENCHMARK_CAPTURE(update, bf16_cold, DType::kBFloat16, kColdElems, Pages::kSmall)->Apply(threads_1_2);
BENCHMARK_CAPTURE(update, bf16_cold_huge_pages, DType::kBFloat16, kColdElems, Pages::kHuge)->Apply(threads_1_2);
BENCHMARK_CAPTURE(update, bf16_hot_tile, DType::kBFloat16, kTileElems, Pages::kSmall)->Apply(threads_1_2);
BENCHMARK_CAPTURE(update, bf16_hot_64Ki, DType::kBFloat16, Elems{1} << 16, Pages::kSmall)->Apply(threads_1_2);
BENCHMARK_CAPTURE(update, fp32_cold, DType::kFloat32, kColdElems, Pages::kSmall)->Apply(threads_1_2);
BENCHMARK_CAPTURE(update, fp32_cold_huge_pages, DType::kFloat32, kColdElems, Pages::kHuge)->Apply(threads_1_2);
BENCHMARK_CAPTURE(update, fp32_hot_tile, DType::kFloat32, kTileElems, Pages::kSmall)->Apply(threads_1_2);
BENCHMARK_CAPTURE(norm, bf16_cold, DType::kBFloat16, kColdElems)->Apply(threads_1_2);
BENCHMARK_CAPTURE(norm, bf16_hot_tile, DType::kBFloat16, kTileElems)->Apply(threads_1_2);
BENCHMARK_CAPTURE(norm, fp32_cold, DType::kFloat32, kColdElems)->Apply(threads_1_2);
BENCHMARK_CAPTURE(norm, fp32_hot_tile, DType::kFloat32, kTileElems)->Apply(threads_1_2);
BENCHMARK_CAPTURE(convert, round, Conversion::kRound)->Apply(threads_1_2);
BENCHMARK_CAPTURE(convert, widen, Conversion::kWiden)->Apply(threads_1_2);
BENCHMARK_CAPTURE(convert, reseed_none_differs, Conversion::kReseed)->Apply(threads_1_2);

}  // namespace
}  // namespace patrickstar::bench

BENCHMARK_MAIN();
