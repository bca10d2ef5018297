// A layout that `patrickstar layout` chose, as a JSON file (docs/formats.md). It changes where bytes lie, never what they are.
#pragma once

#include <string>
#include <vector>

#include "patrickstar/core/base/status.h"
#include "patrickstar/core/mem/layout.h"

namespace patrickstar {

struct ChosenLayout {
  LayoutOptions options;
  std::string order;                // "registration" or "first use", for people
  std::string reason;               // why it was chosen, in one line
  std::vector<TensorSpec> tensors;  // in the order of placement; names differ
};

// Error: kInvalidArgument, a name is not UTF-8.
Result<std::string> layout_text(const ChosenLayout& layout);
// Errors: kIoError; kInvalidArgument "[layout] <path>: ...".
Result<ChosenLayout> load_layout(const std::string& path);

}  // namespace patrickstar
