// TensorOrder: in which order a model's tensors are placed, as a list of them says, and whether the list is of this model.
//
// The list is applied part by part, as the model is attached: within a part tensors come in the order of the list, and those
// that it lacks after them. Placement changes no bits, so a list of another model does no harm but gains nothing: check() says
// at the end all that does not fit. Not thread-safe.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "patrickstar/core/base/model_scheme.h"
#include "patrickstar/core/base/status.h"

namespace patrickstar {

class TensorOrder {
 public:
  // An empty list: as they come, and check() is content.
  explicit TensorOrder(std::vector<TensorSpec> list);

  // The places of a part's tensors: indices into `part`.
  std::vector<std::size_t> order_of(const std::vector<TensorSpec>& part) const;
  // The part was placed.
  void placed(const std::vector<TensorSpec>& part);
  // Ok, or kInvalidArgument in one line: tensors that the list lacks, that it has in vain, that differ in length or training.
  Status check() const;

 private:
  std::vector<TensorSpec> list_;
  std::unordered_map<std::string, std::size_t> position_;  // in the list, by name
  std::vector<bool> placed_;                               // by position
  std::vector<std::string> lacking_;
  std::vector<std::string> differing_;
};

}  // namespace patrickstar
