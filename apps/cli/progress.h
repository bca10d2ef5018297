// Progress: a bar on a terminal, plain lines elsewhere. No LibTorch here.
#pragma once

#include <cstdint>
#include <string>

#include "patrickstar/core/base/units.h"

namespace patrickstar::cli {

struct ProgressState {
  std::int64_t step = 0;  // done
  std::int64_t steps = 0;
  float loss = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
  Bytes used = 0;    // 0: unknown
  Bytes budget = 0;  // 0: none
};

class Progress {
 public:
  Progress();  // looks whether stderr is a terminal
  void show(const ProgressState& state);
  // A line of its own, above the bar.
  void say(const std::string& line);
  void finish();

 private:
  const bool terminal_;
  bool open_ = false;
};

}  // namespace patrickstar::cli
