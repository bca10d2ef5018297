ps_benchmark(policy_bench ${CMAKE_CURRENT_LIST_DIR}/policy_bench.cc)
