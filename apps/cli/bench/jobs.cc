#include "apps/cli/bench/jobs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "patrickstar/models/transformer_config.h"

namespace patrickstar::cli {
namespace {

constexpr int kTokens = 1 << 18;
// A shape that trains in a moment and still has chunks to stream: 5.3M parameters, 70 MiB of model data.
constexpr const char* kQuickShape[] = {"--model", "tiny-gpt2", "--hidden-size", "256", "--layers", "6", "--vocab-size", "2048"};
constexpr const char* kQuickModel = "tiny-gpt2";

std::string error_text() { return std::strerror(errno); }

}  // namespace

Result<std::unique_ptr<Jobs>> Jobs::create(const BenchOptions& options) {
  const auto preset = models::preset(options.quick ? kQuickModel : options.model);
  if (!preset.config.has_value()) return Status(StatusCode::kInvalidArgument, "--model: " + preset.error);
  std::error_code error;
  std::string directory = (std::filesystem::temp_directory_path(error) / "patrickstar-bench-XXXXXX").string();
  if (error || mkdtemp(directory.data()) == nullptr)
    return Status(StatusCode::kIoError, fmt::format("[bench] cannot make {}: {}", directory, error_text()));
  std::unique_ptr<Jobs> jobs(new Jobs(options, directory));
  jobs->longest_ = preset.config->max_positions;
  if (Status status = jobs->write_tokens(preset.config->vocab_size); !status.ok()) return status;
  return jobs;
}

Jobs::~Jobs() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

Status Jobs::write_tokens(std::int64_t vocabulary) {
  std::mt19937_64 random(1);
  std::vector<std::uint16_t> tokens(kTokens);
  const auto most = static_cast<std::uint64_t>(std::min<std::int64_t>(vocabulary, 1 << 16));
  for (std::uint16_t& token : tokens) token = static_cast<std::uint16_t>(random() % most);
  std::ofstream file(directory_ + "/tokens.bin", std::ios::binary);
  file.write(reinterpret_cast<const char*>(tokens.data()), static_cast<std::streamsize>(tokens.size() * sizeof(tokens[0])));
  file.close();
  return file ? Status() : Status(StatusCode::kIoError, fmt::format("[bench] cannot write in {}: {}", directory_, error_text()));
}

std::vector<std::string> Jobs::common(const Job& job) const {
  std::vector<std::string> arguments{"train", "--data", directory_ + "/tokens.bin"};
  if (options_.quick) {
    arguments.insert(arguments.end(), std::begin(kQuickShape), std::end(kQuickShape));
  } else {
    arguments.insert(arguments.end(), {"--model", options_.model});
  }
  arguments.insert(arguments.end(),
                   {"--dtype", options_.dtype, "--batch-size", std::to_string(job.shape.batch), "--sequence-length",
                    std::to_string(job.shape.sequence), "--steps", std::to_string(job.pauses.back()), "--pause-after",
                    fmt::format("{}", fmt::join(job.pauses, ",")), "--threads", std::to_string(options_.threads)});
  return arguments;
}

Result<std::unique_ptr<Child>> Jobs::launch(std::vector<std::string> arguments) {
  const std::string prefix = fmt::format("{}/{}", directory_, ++started_);
  if (arguments.back() != "--plain") {
    arguments.insert(arguments.end(), {"--trace", prefix + ".trace", "--transfers", prefix + ".transfers"});
  }
  return Child::start("/proc/self/exe", std::move(arguments), prefix);
}

Result<std::unique_ptr<Child>> Jobs::start_plain(const Job& job) {
  std::vector<std::string> arguments = common(job);
  arguments.insert(arguments.end(), {"--plain-allocator", "counting", "--plain"});
  return launch(std::move(arguments));
}

Result<std::unique_ptr<Child>> Jobs::start(const Job& job, Bytes budget) {
  std::vector<std::string> arguments = common(job);
  arguments.insert(arguments.end(),
                   {"--spill-dir", options_.spill_dir, "--io", options_.io, "--update-schedule", options_.update_schedule});
  if (budget > 0) arguments.insert(arguments.end(), {"--memory-budget", std::to_string(budget)});
  return launch(std::move(arguments));
}

}  // namespace patrickstar::cli
