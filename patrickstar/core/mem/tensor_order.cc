#include "patrickstar/core/mem/tensor_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace patrickstar {
namespace {

std::string describe(const TensorSpec& spec) {
  return fmt::format("{} elements{}", spec.elems, spec.training == Training::kFrozen ? ", frozen" : "");
}

// "3 tensors that ...: a, b, c", with at most some of their names.
void say(const std::vector<std::string>& names, const char* what, std::string* text) {
  constexpr std::size_t kMost = 5;
  if (names.empty()) return;
  *text += fmt::format("{}{} {}: ", text->empty() ? "" : "; ", names.size(), what);
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i) *text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kMost) *text += fmt::format(" and {} more", names.size() - kMost);
}

}  // namespace

TensorOrder::TensorOrder(std::vector<TensorSpec> list) : list_(std::move(list)), placed_(list_.size(), false) {
  for (std::size_t i = 0; i < list_.size(); ++i) position_.emplace(list_[i].name, i);
}

std::vector<std::size_t> TensorOrder::order_of(const std::vector<TensorSpec>& part) const {
  std::vector<std::size_t> order(part.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto position = [&](std::size_t i) {
    const auto found = position_.find(part[i].name);
    return found == position_.end() ? list_.size() : found->second;
  };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return position(a) < position(b); });
  return order;
}

void TensorOrder::placed(const std::vector<TensorSpec>& part) {
  if (list_.empty()) return;
  for (const TensorSpec& spec : part) {
    const auto found = position_.find(spec.name);
    if (found == position_.end()) {
      lacking_.push_back(spec.name);
      continue;
    }
    placed_[found->second] = true;
    const TensorSpec& listed = list_[found->second];
    if (listed != spec) differing_.push_back(fmt::format("{} ({}; there {})", spec.name, describe(spec), describe(listed)));
  }
}

Status TensorOrder::check() const {
  std::vector<std::string> unplaced;
  for (std::size_t i = 0; i < list_.size(); ++i) {
    if (!placed_[i]) unplaced.push_back(list_[i].name);
  }
  std::string text;
  say(lacking_, "of the model's tensors are missing in it", &text);
  say(unplaced, "of its tensors are not in the model", &text);
  say(differing_, "differ", &text);
  if (text.empty()) return {};
  return Status(StatusCode::kInvalidArgument, "[layout] the layout is another model's: " + text);
}

}  // namespace patrickstar
