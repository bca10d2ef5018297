# Imports LibTorch from a PyPI wheel or an unpacked LibTorch archive, CPU part only.
#
# Not find_package(Torch): with a CUDA build of LibTorch it demands a CUDA toolkit (and the right language dialect) even
# where only the CPU part is used. Defines PatrickStar::torch. LibTorch is looked for in PATRICKSTAR_TORCH_ROOT, else in
# the project's .venv, where scripts/setup puts the pinned wheel.

set(PATRICKSTAR_TORCH_PIN "2.11")

set(_root "${PATRICKSTAR_TORCH_ROOT}")
if(NOT _root)
  file(GLOB _candidates ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  list(LENGTH _candidates _count)
  if(_count GREATER 0)
    list(GET _candidates 0 _root)
  endif()
endif()
if(NOT _root)
  message(FATAL_ERROR "LibTorch not found: run scripts/setup, which puts torch ${PATRICKSTAR_TORCH_PIN} into .venv, "
                      "or pass -DPATRICKSTAR_TORCH_ROOT=<directory with include/ and lib/>")
endif()

set(_version_header ${_root}/include/torch/headeronly/version.h)
if(NOT EXISTS ${_version_header})
  set(_version_header ${_root}/include/torch/csrc/api/include/torch/version.h)
endif()
if(NOT EXISTS ${_version_header})
  message(FATAL_ERROR "no LibTorch headers in ${_root}: PATRICKSTAR_TORCH_ROOT must hold include/ and lib/")
endif()
file(STRINGS ${_version_header} _lines REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
foreach(_line IN LISTS _lines)
  string(REGEX MATCH "TORCH_VERSION_([A-Z]+) ([0-9]+)" _ "${_line}")
  set(_torch_${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()
set(PatrickStarTorch_VERSION "${_torch_MAJOR}.${_torch_MINOR}.${_torch_PATCH}")
if(PatrickStarTorch_VERSION VERSION_LESS PATRICKSTAR_TORCH_PIN)
  message(FATAL_ERROR "LibTorch ${PatrickStarTorch_VERSION} in ${_root} is too old: PatrickStar is built and tested against "
                      "${PATRICKSTAR_TORCH_PIN}. Run scripts/setup or give another PATRICKSTAR_TORCH_ROOT")
endif()
if(NOT PatrickStarTorch_VERSION VERSION_LESS 2.12)
  message(WARNING "LibTorch ${PatrickStarTorch_VERSION} is newer than the pin ${PATRICKSTAR_TORCH_PIN}: not tried")
endif()

find_library(PATRICKSTAR_C10_LIBRARY c10 PATHS ${_root}/lib NO_DEFAULT_PATH NO_CACHE REQUIRED)
find_library(PATRICKSTAR_TORCH_CPU_LIBRARY torch_cpu PATHS ${_root}/lib NO_DEFAULT_PATH NO_CACHE REQUIRED)

# The OpenMP runtime that libtorch_cpu.so itself loads: at::parallel_for compiles to calls into it, and a second one would be a second
# pool of threads.
file(GLOB _gomp ${_root}/lib/libgomp*.so* ${_root}/../torch.libs/libgomp*.so*)
if(NOT _gomp)
  message(FATAL_ERROR "no libgomp beside LibTorch in ${_root}/lib: this LibTorch was not built with GNU OpenMP")
endif()
list(GET _gomp 0 _gomp)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(PatrickStarTorch REQUIRED_VARS PATRICKSTAR_TORCH_CPU_LIBRARY PATRICKSTAR_C10_LIBRARY
                                  VERSION_VAR PatrickStarTorch_VERSION)

if(NOT TARGET PatrickStar::torch)
  add_library(PatrickStar::c10 SHARED IMPORTED)
  set_target_properties(PatrickStar::c10 PROPERTIES IMPORTED_LOCATION ${PATRICKSTAR_C10_LIBRARY})
  add_library(PatrickStar::torch_cpu SHARED IMPORTED)
  set_target_properties(PatrickStar::torch_cpu PROPERTIES IMPORTED_LOCATION ${PATRICKSTAR_TORCH_CPU_LIBRARY})
  add_library(PatrickStar::torch INTERFACE IMPORTED)
  target_include_directories(PatrickStar::torch SYSTEM INTERFACE ${_root}/include ${_root}/include/torch/csrc/api/include)
  target_link_libraries(PatrickStar::torch INTERFACE PatrickStar::torch_cpu PatrickStar::c10 ${_gomp})
  # NDEBUG always: without it RecordFunction has one member more than in the release library (crash in the first callback).
  target_compile_definitions(PatrickStar::torch INTERFACE NDEBUG)
  # The wheel's CUDA helpers that libtorch_cpu.so names are found by its own RPATH at run time, not by our linker.
  target_link_options(PatrickStar::torch INTERFACE -Wl,--unresolved-symbols=ignore-in-shared-libs
                      -Wl,-rpath,${_root}/lib)
endif()
