// Parameter: one tensor of an attached model: its value, its gradient and what the optimizer must know of it.
//
// [Note: what lies in a parameter's place] In 16-bit training without accumulation the gradient takes the place of the value
// (14 B/param). So a place holds the value; or the gradient, from its arrival until step(); or, when the gradient was thrown
// away before a step, nothing of use. A value that is wanted meanwhile is rebuilt from the master: into scratch while the
// gradient must stay, into its place when it need not.
//
// [Note: passing gradients] A gradient whose update runs as it arrives need not be copied into the parameter's place: it is read
// where autograd made it. Only tiles that wait are copied, and those that were to run and failed; should even that fail,
// autograd's memory stays until the update is complete, so that nothing is lost.
//
// Thread safety: gradients may arrive on several threads for different parameters, while operators of other threads read any
// of them ([Note: a value in use]). One parameter is written by one thread at a time, as any tensor.
//
// [Note: a value in use] Several backward() calls may run at once, as with any module: an operator of one may have a value open,
// or be about to restore it, when another brings its gradient. That gradient then stays where autograd made it until step(),
// though there may be no room for such in general. Where nobody has the value open it counts as displaced before the gradient is
// copied, so that who comes meanwhile rebuilds it. Updates in backward have no such way out: they exclude other threads at the
// model (UpdateTiming::kOverlapped), and one that meets such a thread at once is refused by name. Gradients are read on other
// threads at no time between backward() and the end of step().
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "patrickstar/bridge/engine/model_data.h"
#include "patrickstar/bridge/module/storage_backing.h"

namespace torch::autograd {
struct Node;
}

namespace patrickstar::bridge {

class EngineCore;
class GradientBacking;

enum class PlaceHolds : std::uint8_t {
  kValue,
  kGradient,  // the value can be rebuilt from the master
  kNothing,   // likewise; the gradient was discarded
  kRestoring  // a thread is writing the value there; for the others it can be rebuilt from the master
};

class Parameter {
 public:
  Parameter(EngineCore* core, TensorId id, const at::Tensor& tensor, Training training);
  ~Parameter();
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  TensorId id() const { return id_; }
  const std::string& name() const;
  Training training() const { return training_; }
  // The tensor that the model holds, or an undefined one when the model is gone.
  at::Tensor tensor() const;
  const c10::TensorImpl* key() const { return key_; }

  // Takes the tensor's storage over; its bytes are in chunk space already. `core` is kept alive by the storage.
  void adopt_storage(const at::Tensor& tensor, std::shared_ptr<EngineCore> core);
  // Watches the tensor's gradient. Undone by unwatch().
  void watch(const std::shared_ptr<EngineCore>& core);
  void unwatch();
  // The tensor is about to become an ordinary one again; for good.
  void release();
  bool released() const { return released_; }
  // Not ok: somebody gave the tensor another storage (set_data, to()), and what is trained is no longer what it shows.
  Status check_storage() const;

  // autograd has put a gradient into tensor().grad(). Throws Error.
  void gradient_arrived();
  // Takes a gradient that the user put there, as if it had arrived. Throws Error; also where it can never be taken, and where
  // it was consumed by a step() that has ended.
  void take_assigned_gradient();
  // Whether tensor().grad() is a gradient that is ours and not consumed.
  bool has_gradient() const;
  // A step() came to its end.
  void step_ended();
  // Where the gradient is when autograd's own memory holds it; null when it lies in chunk space (or there is none).
  const void* gradient_beside() const;
  bool gradient_kept() const;  // in autograd's own memory until step()
  // Sum of squares of the gradient, taken again if it was written since. Throws Error.
  double gradient_sum_of_squares();
  // The parameter's value was changed outside the optimizer since the last update: brings the master up to date.
  Status take_over_writes();
  // Its update is due from the gradient it has: a gradient in the parameter's place is consumed by that.
  void update_put();
  // The optimizer has written the new value. What becomes of the gradient depends on where it lies.
  void updated();
  // Copies the passing gradient into the parameter's place, but for the tiles that are `copied` already (by tile of the tensor;
  // empty: none is), and lets it go. Keeps it if that fails. REQUIRES: called by the UpdateQueue, or no update is due.
  Status settle_passing(const std::vector<bool>& copied);
  bool has_passing() const { return passing_.defined(); }

  bool updated_in_backward = false;  // since the last step(), by an overlapped schedule
  double grad_scale = 1.0;           // of the gradient it has, by clipping; taken by the update
  std::int64_t step = 0;             // updates so far (torch.optim.AdamW's per-parameter step)

 private:
  friend class ValueBacking;
  friend class GradientBacking;
  class Placing;
  StorageBacking* backing_of_grad() const;
  bool keep_gradient(const at::Tensor& gradient);
  bool displace_value();
  void refuse_update_of_value_in_use();
  void keep_beside_value_in_use(const at::Tensor& gradient);
  // `passing`, `left_out`: by tile of the tensor, whether it is read where it is, or not copied; empty: all is copied.
  void put_gradient(const at::Tensor& gradient, PlaceHolds place_holds, const std::vector<bool>& passing = {});
  void copy_gradient(std::byte* to, const at::Tensor& gradient, const std::vector<bool>& left_out) const;
  std::vector<bool> tiles_to_pass() const;
  void pass_gradient(const at::Tensor& gradient, const std::vector<bool>& passing);
  void gradient_died(GradientBacking* backing);
  void discard_dead_gradients();
  at::Tensor dense_like_parameter(const at::Tensor& gradient) const;
  Result<Placement> locate_value();
  Status restore_value(const Placement& place);
  std::string armed_text_of(const char* what) const;

  EngineCore* const core_;
  const TensorId id_;
  const Training training_;
  const c10::TensorImpl* const key_;
  c10::weak_intrusive_ptr<c10::TensorImpl> tensor_;
  std::shared_ptr<torch::autograd::Node> accumulator_;
  bool released_ = false;
  StorageBacking* value_ = nullptr;  // owned by the storage that was adopted
  std::atomic<PlaceHolds> place_holds_ = PlaceHolds::kValue;
  std::atomic<bool> written_ = false;
  GradientBacking* gradient_ = nullptr;   // the last that arrived, whoever holds it; owned by its storage
  bool placing_ = false;                  // a gradient is on its way into its chunk; EngineCore::gradient_places guards it
  at::Tensor passing_;                    // [Note: passing gradients]; the queue's mutex guards it once an update is due
  c10::DataPtr dead_gradient_;            // one that was kept and dropped before the update that is due has read it
  std::optional<double> sum_of_squares_;  // of the gradient as it is
};

}  // namespace patrickstar::bridge
