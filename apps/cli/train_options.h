// The options of `patrickstar train`. No LibTorch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "patrickstar/core/base/dtype.h"
#include "patrickstar/core/base/status.h"
#include "patrickstar/core/base/units.h"
#include "patrickstar/core/io/disk.h"
#include "patrickstar/models/transformer_config.h"

namespace CLI {
class App;
}

namespace patrickstar::cli {

enum class Baseline : std::uint8_t { kNone, kPlain };  // kPlain: --plain, the same loop on plain LibTorch
enum class PlainAllocator : std::uint8_t { kTorch, kCounting, kArena };
enum class Prefetching : std::uint8_t { kPlanned, kOnDemand };
enum class Updates : std::uint8_t { kAtStep, kDeferred, kOverlapped };
enum class LrSchedule : std::uint8_t { kConstant, kLinear, kCosine };

struct TrainOptions {
  std::string data;
  std::string model = "gpt2";
  std::int64_t steps = 20;
  std::int64_t batch_size = 2;
  std::int64_t accumulate = 1;
  std::int64_t sequence_length = 256;
  std::string dtype = "bf16";
  bool checkpoint_activations = false;
  std::string memory_budget;  // as typed; empty: automatic
  std::string spill_dir = "/var/tmp";
  std::int64_t chunk_elems = 0;  // 0: the runtime's default
  std::int64_t tile_elems = 0;
  std::string layout;  // a file that patrickstar layout wrote
  std::string prefetch = "planned";
  std::string update_schedule = "auto";
  std::string io = "auto";
  std::string direct = "auto";
  std::uint64_t seed = 1;
  int threads = 0;       // 0: as many as LibTorch takes
  double grad_clip = 0;  // 0: no clipping
  double lr = 3e-4;
  double weight_decay = 0.1;
  std::int64_t warmup = 0;
  std::string lr_schedule = "constant";
  std::int64_t validate_every = 0;  // 0: never
  std::int64_t validate_batches = 4;
  bool plain = false;
  std::string plain_allocator = "torch";
  std::string summary;
  std::string events;
  std::string timeline;
  bool report = false;
  std::string trace;
  std::string transfers;
  std::vector<std::int64_t> pause_after;  // steps
  bool repeat_batch = false;
  bool forward_only = false;
  std::int64_t freeze_layers = 0;
  // Shape, over the preset's; 0 or empty: the preset's.
  std::int64_t layers = 0;
  std::int64_t hidden_size = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;
  std::string head;  // tied, untied
};

// Adds the subcommand's options to `app`, with their defaults in the help.
void add_train_options(CLI::App& app, TrainOptions* options);

// The options in the runtime's terms, checked.
struct TrainPlan {
  models::TransformerConfig model;
  DType dtype = DType::kBFloat16;
  Baseline baseline = Baseline::kNone;
  PlainAllocator plain_allocator = PlainAllocator::kTorch;
  LrSchedule schedule = LrSchedule::kConstant;
  Bytes budget = 0;  // 0: automatic
  Prefetching prefetch = Prefetching::kPlanned;
  Updates updates = Updates::kDeferred;
  IoBackend io = IoBackend::kAuto;
  DirectIo direct = DirectIo::kAuto;
};
// Errors: kInvalidArgument in one line that names the option.
Result<TrainPlan> check(const TrainOptions& options);

// lr of a step (counted from 0) as a factor of --lr: warm-up, then the schedule down to a tenth at the end.
double lr_factor(const TrainOptions& options, LrSchedule schedule, std::int64_t step);

}  // namespace patrickstar::cli
