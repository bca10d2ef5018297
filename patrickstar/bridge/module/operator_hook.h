// The operator hook: before each operator every managed storage among its inputs is opened, afterwards closed. One of the two
// process-wide registrations (the other is device/cpu_allocator.h).
#pragma once

#include <cstdint>

namespace patrickstar::bridge {

class OperatorGate;

// From now on operators of every thread go through `gate`; null takes the hook out. REQUIRES: no operator is running.
void use_operator_gate(OperatorGate* gate);
bool operator_hook_installed();
// Operators that had a managed input, since the process began.
std::int64_t managed_operators();

}  // namespace patrickstar::bridge
