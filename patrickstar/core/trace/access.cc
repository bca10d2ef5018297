#include "patrickstar/core/trace/access.h"

namespace patrickstar {

const char* payload_kind_name(PayloadKind kind) {
  switch (kind) {
    case PayloadKind::kParam: return "param";
    case PayloadKind::kGrad: return "grad";
    case PayloadKind::kState: return "state";
  }
  return "unknown";
}

}  // namespace patrickstar
