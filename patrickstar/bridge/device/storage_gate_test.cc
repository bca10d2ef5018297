#include "patrickstar/bridge/device/storage_gate.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace patrickstar::bridge {
namespace {

int deleted = 0;
void count_deletion(void* context) { deleted += *static_cast<int*>(context); }

std::string text_of(const std::function<void()>& access) {
  try {
    access();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "";
}

TEST(StorageGate, AnArmedStorageRaisesItsTextThroughViewsToo) {
  int context = 1;
  const at::Tensor tensor = at::ones({4, 3});
  take_over(tensor.storage().unsafeGetStorageImpl(), &context, &count_deletion, "[memory] armed");
  const std::pair<const char*, std::function<void()>> accesses[] = {
      {"data_ptr", [&] { (void)tensor.data_ptr(); }},
      {"const_data_ptr", [&] { (void)tensor.const_data_ptr(); }},
      {"typed", [&] { (void)tensor.data_ptr<float>(); }},
      {"transposed", [&] { (void)tensor.t().data_ptr(); }},
      {"slice", [&] { (void)tensor.slice(0, 1, 3).const_data_ptr(); }},
      {"detached", [&] { (void)tensor.detach().mutable_data_ptr(); }},
      {"storage", [&] { (void)tensor.storage().data(); }},
      {"mutable storage", [&] { (void)tensor.storage().mutable_data(); }},
      {"operator", [&] { (void)(tensor + 1); }}};
  for (const auto& [name, access] : accesses) EXPECT_EQ(text_of(access), "[memory] armed") << name;
}

TEST(StorageGate, OpensAtAnAddressAndArmsAgain) {
  int context = 1;
  float bytes[4] = {1, 2, 3, 4};
  float others[4] = {5, 6, 7, 8};
  const at::Tensor tensor = at::zeros({4});
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  take_over(storage, &context, &count_deletion, "armed");
  EXPECT_TRUE(armed(storage));
  EXPECT_EQ(context_of(storage, &count_deletion), &context);
  EXPECT_EQ(context_of(at::zeros({1}).storage().unsafeGetStorageImpl(), &count_deletion), nullptr);
  open_at(storage, bytes);
  EXPECT_FALSE(armed(storage));
  EXPECT_EQ(tensor.sum().item<float>(), 10);
  arm(storage);
  set_text(storage, "other words");
  EXPECT_EQ(text_of([&] { (void)tensor.data_ptr(); }), "other words");
  open_at(storage, others);
  EXPECT_EQ(tensor.sum().item<float>(), 26);
  EXPECT_EQ(context_of(storage, &count_deletion), &context);
}

TEST(StorageGate, TheDeleterRunsOnceWhenTheStorageDies) {
  int context = 1;
  float bytes[4] = {};
  deleted = 0;
  {
    const at::Tensor tensor = at::zeros({4});
    take_over(tensor.storage().unsafeGetStorageImpl(), &context, &count_deletion, "armed");
    open_at(tensor.storage().unsafeGetStorageImpl(), bytes);
    arm(tensor.storage().unsafeGetStorageImpl());
    EXPECT_EQ(deleted, 0);
  }
  EXPECT_EQ(deleted, 1);
}

TEST(StorageGate, TheOldMemoryCanBeKept) {
  int context = 1;
  const at::Tensor tensor = at::full({4}, 3.0f);
  const c10::DataPtr old = take_over_keeping(tensor.storage().unsafeGetStorageImpl(), &context, &count_deletion, "armed");
  ASSERT_NE(old.get(), nullptr);
  EXPECT_EQ(static_cast<const float*>(old.get())[3], 3.0f);
}

}  // namespace
}  // namespace patrickstar::bridge
