// Several threads at one model: values in use while gradients arrive, gradients that arrive at once, failures on other threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <cerrno>
#include <cstring>
#include <future>
#include <thread>

#include "patrickstar/bridge/device/storage_gate.h"
#include "patrickstar/bridge/engine/update_test_util.h"
#include "patrickstar/bridge/module/operator_gate.h"
#include "patrickstar/core/io/testing/faulty_file_ops.h"

namespace patrickstar::bridge {
namespace {

using testing::AllOf;
using testing::HasSubstr;

template <class Action>
auto on_another_thread(const Action& action) {
  return std::async(std::launch::async, action).get();
}

Parameter& parameter_of(UpdateRig& rig, int layer) { return *rig.engine.core()->find(rig.weight(layer).unsafeGetTensorImpl()); }

// A tensor's bytes as an operator of another thread has them open, from construction to close().
class OpenElsewhere {
 public:
  // `meanwhile`: what is done before it is open.
  OpenElsewhere(
      UpdateRig& rig, at::Tensor tensor, const std::function<void()>& meanwhile = [] {})
      : tensor_(std::move(tensor)) {
    std::promise<void> opened;
    thread_ = std::thread([&, closing = closing_.get_future()] {
      auto* const backing = static_cast<StorageBacking*>(context_of(tensor_.storage().unsafeGetStorageImpl(), &managed_deleter));
      const OpenRequest request{backing, AccessMode::kRead};
      auto open = rig.runtime->gate().open({&request, 1});
      EXPECT_TRUE(open.ok()) << open.status().message();
      opened.set_value();
      closing.wait();
    });
    meanwhile();
    opened.get_future().wait();
  }
  ~OpenElsewhere() { close(); }
  bool shows(const at::Tensor& expected) const {
    return std::memcmp(tensor_.const_data_ptr(), expected.const_data_ptr(), expected.nbytes()) == 0;
  }
  void close() {
    if (!thread_.joinable()) return;
    closing_.set_value();
    thread_.join();
  }

 private:
  const at::Tensor tensor_;
  std::promise<void> closing_;
  std::thread thread_;
};

TEST(Concurrent, AValueInUseOnAnotherThreadStaysWhenItsGradientArrives) {
  for (const UpdateTiming timing : {UpdateTiming::kDeferred, UpdateTiming::kAtStep}) {
    std::vector<at::Tensor> expected;
    at::Tensor gradient;
    {
      UpdateRig rig(timing);
      rig.backward();
      gradient = rig.weight(1).grad().clone();
      EXPECT_EQ(parameter_of(rig, 1).gradient_beside(), nullptr);
      rig.optimizer->step();
      expected = rig.values();
    }
    UpdateRig rig(timing);
    const at::Tensor before = rig.weight(1).clone();
    OpenElsewhere open(rig, rig.weight(1));
    rig.backward();
    EXPECT_TRUE(open.shows(before));
    open.close();
    EXPECT_NE(parameter_of(rig, 1).gradient_beside(), nullptr) << "kept beside its value";
    EXPECT_EQ(parameter_of(rig, 2).gradient_beside(), nullptr) << "the others are not";
    EXPECT_TRUE(at::equal(rig.weight(1).grad(), gradient));
    EXPECT_TRUE(at::equal(rig.weight(1), before));
    rig.optimizer->step();
    EXPECT_TRUE(same(rig.values(), expected));
    rig.runtime->manager().check_invariants();
  }
}

TEST(Concurrent, AnOverlappedUpdateOfAValueInUseIsRefused) {
  for (const Bytes budget : {kTight, kRoomy}) {
    UpdateRig rig(UpdateTiming::kOverlapped, GradientPlacement::kInParameter, &posix_file_ops(), budget);
    const at::Tensor before = rig.weight(1).clone();
    OpenElsewhere open(rig, rig.weight(1));
    // On a thread that ends: what autograd keeps of a backward that failed goes with it.
    EXPECT_THAT(on_another_thread([&] { return error_of([&] { rig.backward(); }); }),
                AllOf(HasSubstr("1.weight is in use by another operator"), HasSubstr("use deferred updates")));
    EXPECT_TRUE(open.shows(before));
  }
}

// Its tile is also its weight's, whose gradient comes later: it would not run at once.
TEST(Concurrent, AnOverlappedUpdateOfABiasInUseIsRefusedToo) {
  for (const Bytes budget : {kTight, kRoomy}) {
    UpdateRig rig(UpdateTiming::kOverlapped, GradientPlacement::kInParameter, &posix_file_ops(), budget);
    const at::Tensor bias = rig.model->parameters()[3];
    const at::Tensor before = bias.clone();
    OpenElsewhere open(rig, bias);
    EXPECT_THAT(on_another_thread([&] { return error_of([&] { rig.backward(); }); }), HasSubstr("1.bias is in use"));
    EXPECT_TRUE(open.shows(before));
  }
}

// The gradient was thrown away, so the value is restored from its master, of which the disk keeps one part back for a while.
TEST(Concurrent, AGradientThatArrivesWhileItsValueIsRestoredIsKeptBesideIt) {
  FaultyFileOps files;
  UpdateRig rig(UpdateTiming::kDeferred, GradientPlacement::kInParameter, &files);
  const at::Tensor before = rig.weight(0).clone();
  auto first = std::dynamic_pointer_cast<torch::nn::LinearImpl>(rig.model->children()[0]);
  const at::Tensor loss = first->forward(at::full({4, kWidth}, 0.5, at::kBFloat16)).square().sum();
  loss.backward({}, /*retain_graph=*/true);
  const at::Tensor gradient = rig.weight(0).grad().clone();
  EXPECT_EQ(parameter_of(rig, 0).gradient_beside(), nullptr);
  rig.model->zero_grad();
  rig.send_tiles_down();
  files.hold(FileCall::kRead);
  OpenElsewhere open(rig, rig.weight(0), [&] {
    files.wait_until_held(FileCall::kRead, 1);
    loss.backward();  // reads no value
    EXPECT_NE(parameter_of(rig, 0).gradient_beside(), nullptr);
    files.release(FileCall::kRead);
  });
  EXPECT_TRUE(open.shows(before));
  open.close();
  EXPECT_TRUE(at::equal(rig.weight(0), before));
  EXPECT_TRUE(at::equal(rig.weight(0).grad(), gradient));
}

// A chunk of its gradients is of both threads' layers, and does not stay.
TEST(Concurrent, GradientsThatArriveOnTwoThreadsAreThoseOfOne) {
  const auto run = [](bool at_once) {
    const auto runtime = Runtime::create({.memory_budget = 28 * kMiB,
                                          .spill_dir = testing::TempDir(),
                                          .layout = {.chunk_elems = 3 * (kWidth * kWidth + 1024), .tile_elems = 64 * 1024}});
    Engine engine(runtime, {.gradients = GradientPlacement::kOwnChunks});
    torch::manual_seed(11);
    torch::nn::Sequential halves[2];
    struct : torch::nn::Module {
      using Module::register_module;
    } both;
    for (auto& half : halves) {
      for (int i = 0; i < kLayers; ++i) half->push_back(torch::nn::Linear(kWidth, kWidth));
      both.register_module(&half == halves ? "first" : "second", half);
    }
    engine.attach(both);
    ChunkedAdamW optimizer(engine, both.parameters(), torch::optim::AdamWOptions(1e-2), UpdateTiming::kAtStep);
    for (int step = 0; step < 8; ++step) {
      std::barrier start(2);
      const auto backward = [&](torch::nn::Sequential& half) {
        const at::Tensor loss = half->forward(at::full({4, kWidth}, 0.5, at::kBFloat16)).square().sum();
        if (at_once) start.arrive_and_wait();
        loss.backward();
      };
      if (at_once) {
        std::thread other([&] { backward(halves[1]); });
        backward(halves[0]);
        other.join();
      } else {
        for (auto& half : halves) backward(half);
      }
      optimizer.step();
      optimizer.zero_grad();
      runtime->manager().check_invariants();
    }
    EXPECT_GT(runtime->manager().stats().evictions, 0);
    std::vector<at::Tensor> values;
    for (const auto& parameter : both.parameters()) values.push_back(parameter.detach().clone());
    return values;
  };
  const auto expected = run(false);
  for (int repeat = 0; repeat < 3; ++repeat) EXPECT_TRUE(same(run(true), expected));
}

TEST(ConcurrentFaults, AFailureInABackwardOnAnotherThreadReachesItsCaller) {
  FaultyFileOps files;
  UpdateRig rig(UpdateTiming::kDeferred, GradientPlacement::kInParameter, &files);
  const at::Tensor loss = rig.forward();
  for (int layer = 0; layer < kLayers; ++layer) rig.runtime->manager().give_up(rig.chunk(layer).param);
  ASSERT_TRUE(rig.runtime->manager().drain().ok());
  files.fail_every(FileCall::kRead, 1, EIO);
  EXPECT_THAT(on_another_thread([&] { return error_of([&] { loss.backward(); }); }),
              AllOf(HasSubstr(std::strerror(EIO)), HasSubstr("fetch of chunk"), HasSubstr("before aten::")));
  EXPECT_THAT(error_of([&] { rig.optimizer->step(); }), HasSubstr(std::strerror(EIO))) << "told once, and nothing is done";
  files.fail_every(FileCall::kRead, 0, 0);
  EXPECT_TRUE(rig.weight(0).isfinite().all().item<bool>());
}

}  // namespace
}  // namespace patrickstar::bridge
