#include "patrickstar/bridge/module/operator_traits.h"

#include <ATen/core/function_schema.h>
#include <ATen/record_function.h>

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace patrickstar::bridge {
namespace {

// Operators on a tensor's sizes, strides or place in the graph; their schemas say that they write it.
const std::unordered_set<std::string_view> kMetadataOnly = {
    "aten::detach_",   "aten::set_",      "aten::squeeze_",    "aten::unsqueeze_",     "aten::transpose_",  "aten::t_",
    "aten::swapaxes_", "aten::swapdims_", "aten::as_strided_", "aten::requires_grad_", "aten::retain_grad", "aten::set_data",
    "aten::is_leaf",   "aten::output_nr", "aten::_version",    "aten::_backward",      "aten::data",        "aten::rename_"};

// Every result aliases an input and none is written: a view needs no bytes. reshape, contiguous and to look the same and may
// copy, but through inner operators that acquire for themselves.
bool is_view(const c10::FunctionSchema& schema) {
  if (schema.returns().empty()) return false;
  for (const auto& result : schema.returns()) {
    if (result.alias_info() == nullptr || result.alias_info()->isWrite()) return false;
  }
  return true;
}

bool needs_no_bytes(const c10::FunctionSchema& schema) {
  const std::string_view name = schema.name();
  // Inner operators acquire one tensor at a time, so foreach optimizers and clipping work in a small budget.
  if (name.starts_with("aten::_foreach_")) return true;
  if (name.ends_with("_like") || name.starts_with("aten::new_")) return true;
  return kMetadataOnly.contains(name) || is_view(schema);
}

OperatorTraits traits_of(const c10::FunctionSchema& schema) {
  OperatorTraits traits;
  if (needs_no_bytes(schema)) {
    traits.kind = OperatorKind::kNoBytes;
    return traits;
  }
  const auto& arguments = schema.arguments();
  for (std::size_t i = 0; i < arguments.size() && i < 64; ++i) {
    const auto* alias = arguments[i].alias_info();
    if (alias != nullptr && alias->isWrite()) traits.written |= std::uint64_t{1} << i;
  }
  return traits;
}

}  // namespace

const OperatorTraits& operator_traits(const at::RecordFunction& function) {
  // The name's address is the schema's own string, one an overload, for as long as the operator is registered.
  static thread_local std::unordered_map<const void*, OperatorTraits> cache;
  const void* key = function.name();
  const auto found = cache.find(key);
  if (found != cache.end()) return found->second;
  const auto schema = function.operator_schema();  // a copy: expensive, so once
  if (!schema.has_value()) {                       // a user's label; its name's address says nothing
    static constexpr OperatorTraits kLabel{.kind = OperatorKind::kNoBytes};
    return kLabel;
  }
  return cache.emplace(key, traits_of(*schema)).first->second;
}

}  // namespace patrickstar::bridge
