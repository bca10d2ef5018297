#include "patrickstar/core/mem/layout_io.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace patrickstar {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "patrickstar-layout 1";
constexpr Elems kMostElems = Elems{1} << 56;  // of all tensors together, so that no sum of bytes overflows

// A whole number from 1 to `most` in steps of `step`; nothing if it is anything else.
std::optional<Elems> elems_in(const Json& json, const char* key, Elems most, Elems step) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_unsigned()) return std::nullopt;
  const auto value = found->get<std::uint64_t>();
  if (value < 1 || value > static_cast<std::uint64_t>(most) || value % static_cast<std::uint64_t>(step) != 0) return std::nullopt;
  return static_cast<Elems>(value);
}

std::optional<std::string> text_in(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

// What is wrong with the file's contents, or nothing.
std::optional<std::string> read(const Json& json, ChosenLayout* layout) {
  if (!json.is_object() || text_in(json, "format") != kFormat) return fmt::format("\"format\" must be \"{}\"", kFormat);
  const auto chunk = elems_in(json, "chunk_elems", kMostElems, 1);
  const auto tile = elems_in(json, "tile_elems", kMostElems, Layout::kOffsetAlignment);
  if (!chunk) return "\"chunk_elems\" must be a whole number above 0";
  if (!tile) return fmt::format("\"tile_elems\" must be a multiple of {} above 0", Layout::kOffsetAlignment);
  layout->options = {.chunk_elems = *chunk, .tile_elems = *tile};
  const auto order = text_in(json, "order");
  const auto reason = text_in(json, "reason");
  if (!order || !reason) return "\"order\" and \"reason\" must be texts";
  layout->order = *order;
  layout->reason = *reason;
  const auto tensors = json.find("tensors");
  if (tensors == json.end() || !tensors->is_array() || tensors->empty()) return "\"tensors\" must be a list that is not empty";
  std::set<std::string> names;
  Elems all = 0;
  for (const Json& tensor : *tensors) {
    if (!tensor.is_object()) return fmt::format("tensor {} is no object", names.size());
    const auto name = text_in(tensor, "name");
    const auto training = text_in(tensor, "training");
    const auto elems = elems_in(tensor, "elems", kMostElems - all, 1);
    if (!name || !elems || (training != "trained" && training != "frozen"))
      return fmt::format("tensor {} must have a \"name\", \"elems\" above 0 and \"training\" trained or frozen", names.size());
    if (!names.insert(*name).second) return fmt::format("tensor \"{}\" is there twice", *name);
    all += *elems;
    layout->tensors.push_back({*name, *elems, training == "trained" ? Training::kTrained : Training::kFrozen});
  }
  return std::nullopt;
}

}  // namespace

Result<std::string> layout_text(const ChosenLayout& layout) {
  Json tensors = Json::array();
  for (const TensorSpec& tensor : layout.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"elems", tensor.elems},
                       {"training", tensor.training == Training::kTrained ? "trained" : "frozen"}});
  }
  const Json json = {{"format", kFormat},
                     {"chunk_elems", layout.options.chunk_elems},
                     {"tile_elems", layout.options.tile_elems},
                     {"order", layout.order},
                     {"reason", layout.reason},
                     {"tensors", tensors}};
  try {
    return json.dump(2) + "\n";
  } catch (const Json::exception&) {  // replaced characters would be other names
    return Status(StatusCode::kInvalidArgument,
                  "[layout] a tensor's name is not UTF-8, so it cannot be written as JSON: name the model's modules in UTF-8");
  }
}

Result<ChosenLayout> load_layout(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text;
  char piece[4096];
  while (in.read(piece, sizeof(piece)) || in.gcount() > 0) text.append(piece, static_cast<std::size_t>(in.gcount()));
  if (!in.eof()) {
    return Status(StatusCode::kIoError, fmt::format("[layout] reading {} failed: {}", path, std::strerror(errno)));
  }
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  ChosenLayout layout;
  const auto wrong = json.is_discarded() ? std::optional<std::string>("it is no JSON") : read(json, &layout);
  if (wrong) return Status(StatusCode::kInvalidArgument, fmt::format("[layout] {}: {}", path, *wrong));
  return layout;
}

}  // namespace patrickstar
