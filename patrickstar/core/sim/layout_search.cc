#include "patrickstar/core/sim/layout_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "patrickstar/core/base/text.h"
#include "patrickstar/core/policy/orchestrator.h"
#include "patrickstar/core/sim/bounds.h"
#include "patrickstar/core/sim/replay.h"

namespace patrickstar {
namespace {

constexpr Elems kSmallestChunk = Elems{64} << 10;
constexpr Elems kLargestChunk = Elems{64} << 20;

// Values that are read in one step of a replay, and which of them are used while they are there.
class FetchWatch final : public EventSink {
 public:
  FetchWatch(const RelaidStep& step, const Layout& layout, int watched) : step_(step), layout_(layout), watched_(watched) {
    const auto& tensors = step.trace.model.tensors;
    fetched_.resize(step.trace.payloads.size());
    used_.resize(tensors.size(), false);
    for (std::size_t t = 0; t < tensors.size(); ++t) fetched_[tensors[t].param.index()].chunk = layout.place(TensorId(t)).chunk;
  }

  void on_event(const Event& event) override {
    if (event.kind != EventKind::kFetchStart || event.level != 0) return;
    Fetched& fetched = fetched_[event.payload.index()];
    if (!fetched.chunk.valid()) return;  // no values
    end(&fetched, event.bytes);
    fetched.counts = step_number_ == watched_;
  }
  void granted(std::size_t moment) {
    for (const TensorId tensor : step_.used[moment]) used_[tensor.index()] = true;
  }
  void step_done() { ++step_number_; }
  void end() {
    for (std::size_t p = 0; p < fetched_.size(); ++p) {
      if (fetched_[p].chunk.valid()) end(&fetched_[p], step_.trace.payloads[p].bytes);
    }
  }

  Bytes fetched_bytes = 0;
  Bytes unused_bytes = 0;

 private:
  struct Fetched {
    ChunkId chunk;
    bool counts = false;
  };
  void end(Fetched* fetched, Bytes bytes) {
    const Bytes width = dtype_bytes(step_.trace.model.scheme.dtype);
    Bytes unused = 0;
    for (const TensorId tensor : layout_.chunk(fetched->chunk).tensors) {
      if (!used_[tensor.index()]) unused += width * layout_.place(tensor).elems;
      used_[tensor.index()] = false;
    }
    if (!std::exchange(fetched->counts, false)) return;
    fetched_bytes += bytes;
    unused_bytes += unused;
  }

  const RelaidStep& step_;
  const Layout& layout_;
  const int watched_;
  int step_number_ = 0;
  std::vector<Fetched> fetched_;  // by payload
  std::vector<bool> used_;        // by tensor, since its chunk was fetched
};

class Search {
 public:
  Search(const StepByTensor& step, const LayoutSearchOptions& options) : step_(step), options_(options) {}

  Result<LayoutSearch> run() {
    PS_RETURN_IF_ERROR(try_candidate({}));
    for (const PlacementOrder order : {PlacementOrder::kRegistration, PlacementOrder::kFirstUse}) {
      for (const Elems chunk_elems : chunk_sizes(order)) PS_RETURN_IF_ERROR(try_candidate({order, {.chunk_elems = chunk_elems}}));
    }
    const LayoutCandidate best = found_.figures[fastest()].candidate;
    for (const Elems tile_elems : {kDefaultTileElems / 4, kDefaultTileElems / 2, 2 * kDefaultTileElems}) {
      LayoutCandidate other = best;
      other.options.tile_elems = tile_elems;
      PS_RETURN_IF_ERROR(try_candidate(other));
    }
    PS_RETURN_IF_ERROR(choose());
    return std::move(found_);
  }

 private:
  Layout layout_of(const LayoutCandidate& candidate) const {
    return make_layout(step_.model, placement(step_, candidate.order), candidate.options);
  }

  // Powers of two, and for each the smallest size with as many chunks: a tensor more in a chunk only ever moves those behind it
  // forward, so a larger size never gives more chunks.
  std::set<Elems> chunk_sizes(PlacementOrder order) const {
    const auto chunks = [&](Elems elems) { return layout_of({order, {.chunk_elems = elems}}).chunks(); };
    std::set<Elems> sizes;
    for (Elems power = kSmallestChunk; power <= kLargestChunk; power *= 2) {
      sizes.insert(power);
      if (power == kSmallestChunk) continue;
      const std::size_t most = chunks(power);
      Elems too_small = power / 2;
      Elems enough = power;
      while (enough - too_small > Layout::kOffsetAlignment) {
        const Elems middle = round_up(too_small + (enough - too_small) / 2, Layout::kOffsetAlignment);
        (chunks(middle) <= most ? enough : too_small) = middle;
      }
      sizes.insert(enough);
    }
    return sizes;
  }

  // Where each tensor lies, and how its chunk is cut.
  using Places = std::vector<std::pair<std::uint32_t, Elems>>;
  Places places_of(const Layout& layout) const {
    Places places{{0, layout.options().tile_elems}};
    for (std::size_t t = 0; t < layout.tensors(); ++t) {
      const TensorPlace& place = layout.place(TensorId(t));
      places.emplace_back(place.chunk.value, place.offset);
    }
    return places;
  }

  Status try_candidate(const LayoutCandidate& candidate) {
    const Layout layout = layout_of(candidate);
    if (!seen_.insert(places_of(layout)).second) return {};
    const auto relaid = relay(step_, layout);
    if (!relaid.ok()) return relaid.status();
    if (relaid.value().trace.moments.empty()) return Status(StatusCode::kInvalidArgument, "[layout] a step without moments");
    LayoutFigures figures{.candidate = candidate, .chunks = layout.chunks()};
    measure_padding(layout, relaid.value().trace, &figures);
    figures.status = replay_candidate(layout, relaid.value(), &figures);
    found_.figures.push_back(std::move(figures));
    return {};
  }

  void measure_padding(const Layout& layout, const Trace& trace, LayoutFigures* figures) const {
    for (const TracedPayload& payload : trace.payloads) figures->payloads += payload.bytes;
    figures->padding = figures->payloads;
    const ModelScheme& scheme = step_.model.scheme;
    for (std::size_t t = 0; t < layout.tensors(); ++t) {
      const bool trained = layout.tensor(TensorId(t)).training == Training::kTrained;
      const Bytes width = dtype_bytes(scheme.dtype);
      const Bytes element = width + (trained ? 4 * scheme.states() + (scheme.gradient_chunks() ? width : 0) : 0);
      figures->padding -= element * layout.place(TensorId(t)).elems;
    }
  }

  Status replay_candidate(const Layout& layout, const RelaidStep& relaid, LayoutFigures* figures) const {
    const StepBounds bounds =
        step_bounds(relaid.trace, room_for_chunks(relaid.trace, options_.host_budget), options_.disk.bytes_per_second);
    if (bounds.lacking > 0) {
      return Status(StatusCode::kOutOfRoom, "[layout] host lacks " + format_bytes(bounds.lacking) + " at the tightest moment");
    }
    FetchWatch watch(relaid, layout, options_.steps - 2);
    Orchestrator orchestrator({.budget = options_.host_budget});
    ReplayOptions options{.host_budget = options_.host_budget, .disk = options_.disk, .steps = options_.steps};
    options.configure = [&](ChunkManagerOptions* manager) {
      manager->schedule = &orchestrator;
      manager->levels[0].policy = orchestrator.make_policy();
      manager->events = &watch;
    };
    options.granted = [&](ChunkManager*, std::size_t moment) { watch.granted(moment); };
    options.step_done = [&](ChunkManager* manager) {
      manager->step_done();
      watch.step_done();
    };
    const auto report = replay(relaid.trace, options);
    if (!report.ok()) return report.status();
    watch.end();
    const StepReport& last = report.value().steps.back();
    figures->time = last.time;
    figures->limit = bounds.limit;
    figures->traffic = last.read + last.written;
    figures->fetched = watch.fetched_bytes;
    figures->unused = watch.unused_bytes;
    return {};
  }

  bool eligible(const LayoutFigures& figures) const {
    const double most = std::max(options_.most_padding, found_.figures[0].padding_share());
    return figures.status.ok() && figures.padding_share() <= most;
  }
  // Of those that count; the default if none does. The first of equals.
  std::size_t fastest() const {
    std::size_t best = 0;
    for (std::size_t i = 0; i < found_.figures.size(); ++i) {
      const LayoutFigures& figures = found_.figures[i];
      const bool better = !found_.figures[best].status.ok() || figures.time < found_.figures[best].time;
      if (eligible(figures) && better) best = i;
    }
    return best;
  }

  Status choose() {
    const std::size_t best = fastest();
    const LayoutFigures& standard = found_.figures[0];
    const LayoutFigures& fast = found_.figures[best];
    if (!fast.status.ok()) return fast.status.with_context("[layout] under no candidate can the step be replayed");
    if (!standard.status.ok()) {
      found_.chosen = best;
      found_.reason = fmt::format("{} is chosen: the default cannot be replayed ({})", candidate_text(fast.candidate),
                                  standard.status.message());
      return {};
    }
    const double gain = 1 - static_cast<double>(fast.time) / static_cast<double>(standard.time);
    if (best == 0 || gain < options_.least_gain) {
      const std::string other = best == 0 ? "no other is faster in replay"
                                          : fmt::format("{} gains {:.1f} % in replay, less than {:.1f} %",
                                                        candidate_text(fast.candidate), 100 * gain, 100 * options_.least_gain);
      found_.reason = fmt::format("{} stays: {}", candidate_text(standard.candidate), other);
      return {};
    }
    found_.chosen = best;
    found_.reason = fmt::format("{} is chosen: {:.1f} % faster in replay than {}", candidate_text(fast.candidate), 100 * gain,
                                candidate_text(standard.candidate));
    return {};
  }

  const StepByTensor& step_;
  const LayoutSearchOptions& options_;
  std::set<Places> seen_;
  LayoutSearch found_;
};

std::string elems_text(Elems elems) {
  if (elems % (Elems{1} << 20) == 0) return fmt::format("{} Mi", elems >> 20);
  if (elems % (Elems{1} << 10) == 0) return fmt::format("{} Ki", elems >> 10);
  return fmt::format("{}", elems);
}

}  // namespace

std::string candidate_text(const LayoutCandidate& candidate) {
  return fmt::format("{} order, chunks of {} elements, tiles of {}", placement_order_name(candidate.order),
                     elems_text(candidate.options.chunk_elems), elems_text(candidate.options.tile_elems));
}

Result<LayoutSearch> search_layouts(const StepByTensor& step, const LayoutSearchOptions& options) {
  return Search(step, options).run();
}

}  // namespace patrickstar
