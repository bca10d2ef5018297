#!/usr/bin/env python3
"""Plants a violation of each rule in a small tree and requires check_layers to find it, and only it."""

import tempfile
import unittest
from pathlib import Path

import check_layers

LAYERS_OF_CORE = ["base", "obs", "trace", "policy", "mem", "io", "optim", "dist", "sim"]


def folder_of(layer):
    return {"apps": "apps/cli", "python": "python/src"}.get(
        layer, f"patrickstar/{layer}" if layer in ("bridge", "models") else f"patrickstar/core/{layer}"
    )


class CheckLayersTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        for layer in [*LAYERS_OF_CORE, "testing", "bridge", "models", "apps", "python"]:
            self.write(f"{folder_of(layer)}/x.h", "#pragma once\n")

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def errors(self):
        return [str(finding) for finding in check_layers.check(self.root)[1]]

    def expect_clean(self):
        self.assertEqual(self.errors(), [])

    def expect_one(self, start, part):
        found = self.errors()
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(start), found)
        self.assertIn(part, found[0])

    def test_an_empty_order_is_clean(self):
        self.expect_clean()

    def test_every_pair_of_folders(self):
        ranks = {"base": 0, "obs": 1, "trace": 2, "policy": 3, "mem": 4, "io": 5, "optim": 5, "dist": 5, "sim": 6}
        ranks |= {"bridge": 7, "python": 8, "apps": 8}
        allowed = {(a, b) for a in ranks for b in ranks if a == b or ranks[b] < ranks[a]}
        allowed |= {("models", "models"), ("apps", "models")}
        layers = [*ranks, "models"]
        for here in layers:
            for there in layers:
                with self.subTest(here=here, there=there):
                    file = f"{folder_of(here)}/y.cc"
                    self.write(file, f'// why\n#include "{folder_of(there)}/x.h"\n')
                    if (here, there) in allowed:
                        self.expect_clean()
                    else:
                        self.expect_one(f"{file}:2: ", f"{here} must not include {there}")
                    (self.root / file).unlink()

    def test_the_way_an_include_is_written_does_not_matter(self):
        for written in ('"../mem/x.h"', "<patrickstar/core/mem/x.h>", '"patrickstar/core/base/../mem/x.h"'):
            with self.subTest(written=written):
                self.write("patrickstar/core/base/y.cc", f"  #  include {written}\n")
                self.expect_one("patrickstar/core/base/y.cc:1: ", "base must not include mem")

    def test_comments_and_strings_include_nothing(self):
        self.write(
            "patrickstar/core/base/y.cc",
            '// #include "patrickstar/core/mem/x.h"\n/*\n#include <torch/torch.h>\n*/\n'
            'const char* a = "/*";\nconst char* b = R"x(\n#include <torch/torch.h>\n)x";\nint c = 1\'000;\n',
        )
        self.expect_clean()
        self.write("patrickstar/core/base/y.cc", 'const char* a = "/*";\n/* */ \n#include <torch/torch.h>  // */\n')
        self.expect_one("patrickstar/core/base/y.cc:3: ", "LibTorch")

    def test_core_stays_without_torch_cuda_and_python(self):
        cases = {
            "torch/torch.h": "LibTorch", "ATen/ATen.h": "LibTorch", "c10/core/Storage.h": "LibTorch",
            "cuda.h": "CUDA", "cuda_runtime_api.h": "CUDA", "cuda/std/atomic": "CUDA", "nccl.h": "CUDA",
            "Python.h": "Python", "pybind11/pybind11.h": "Python", "python3.11/Python.h": "Python",
        }  # fmt: skip
        for header, owner in cases.items():
            for file in ("patrickstar/core/mem/y.cc", "patrickstar/core/testing/y.cc", "patrickstar/core/mem/y_test.cc"):
                with self.subTest(header=header, file=file):
                    self.write(file, f"#include <{header}>\n")
                    self.expect_one(f"{file}:1: ", f"core must not include {owner}")
                    (self.root / file).unlink()

    def test_cuda_stays_in_bridge(self):
        self.write("patrickstar/bridge/y.cc", "#include <cuda_runtime.h>\n")
        self.expect_clean()
        self.write("apps/cli/y.cc", "#include <cuda_runtime.h>\n")
        self.expect_one("apps/cli/y.cc:1: ", "only bridge includes CUDA")

    def test_formatting_stays_out_of_core_headers(self):
        self.write("patrickstar/core/base/y.cc", "#include <fmt/format.h>\n#include <spdlog/spdlog.h>\n")
        self.expect_clean()
        for header in ("fmt/format.h", "spdlog/spdlog.h"):
            self.write("patrickstar/core/base/y.h", f"#pragma once\n#include <{header}>\n")
            self.expect_one("patrickstar/core/base/y.h:2: ", "include it in the source file")

    def test_formatting_stays_away_from_libtorch(self):
        self.write("patrickstar/bridge/y.cc", "#include <torch/torch.h>\n#include <fmt/format.h>\n")
        self.expect_one("patrickstar/bridge/y.cc:1: ", "fmt or spdlog must stay out")

    def test_formatting_stays_away_from_libtorch_through_headers(self):
        self.write("patrickstar/bridge/torch_side.h", "#pragma once\n#include <c10/core/Storage.h>\n")
        self.write("patrickstar/bridge/log_side.h", "#pragma once\n#include <spdlog/spdlog.h>\n")
        self.expect_clean()
        self.write("apps/cli/y.cc", '#include "patrickstar/bridge/torch_side.h"\n#include "patrickstar/bridge/log_side.h"\n')
        self.expect_one("apps/cli/y.cc:1: ", "patrickstar/bridge/log_side.h -> spdlog/spdlog.h")

    def test_doubles_are_for_tests(self):
        self.write("patrickstar/core/mem/testing/fake.h", '#pragma once\n#include "patrickstar/core/sim/x.h"\n')
        self.write("patrickstar/core/testing/y.h", '#pragma once\n#include "patrickstar/core/mem/testing/fake.h"\n')
        both = '#include "patrickstar/core/testing/x.h"\n#include "patrickstar/core/mem/testing/fake.h"\n'
        for file in ("patrickstar/core/base/y_test.cc", "patrickstar/core/base/y_bench.cc", "tests/model/y.cc",
                     "bench/micro/y.cc", "patrickstar/bridge/y_test.cc"):  # fmt: skip
            self.write(file, both)
        self.expect_clean()
        for file in ("patrickstar/core/sim/y.cc", "patrickstar/bridge/y.cc", "apps/cli/y.cc", "examples/01_lease/y.cc"):
            with self.subTest(file=file):
                self.write(file, '#include "patrickstar/core/mem/testing/fake.h"\n')
                self.expect_one(f"{file}:1: ", "doubles are included by")
                (self.root / file).unlink()

    def test_doubles_of_core_see_core_only(self):
        self.write("patrickstar/core/testing/y.cc", '#include "patrickstar/bridge/x.h"\n')
        self.expect_one("patrickstar/core/testing/y.cc:1: ", "testing must not include bridge")

    def test_doubles_of_core_do_not_see_those_of_bridge(self):
        self.write("patrickstar/bridge/testing/fake.h", '#pragma once\n#include "patrickstar/core/testing/x.h"\n')
        self.expect_clean()
        self.write("patrickstar/core/mem/y_test.cc", '#include "patrickstar/bridge/testing/fake.h"\n')
        self.expect_one("patrickstar/core/mem/y_test.cc:1: ", "core includes nothing but core")

    def test_headers_have_pragma_once(self):
        self.write("patrickstar/core/base/y.h", "// #pragma once\n")
        self.expect_one("patrickstar/core/base/y.h:1: ", "no #pragma once")

    def test_a_header_per_simd_target_needs_no_pragma_once(self):
        self.write("patrickstar/core/optim/adam-inl.h", "int x;\n")
        self.expect_clean()

    def test_a_folder_outside_the_order(self):
        self.write("patrickstar/core/misc/y.cc", "int x;\n")
        self.expect_one("patrickstar/core/misc/y.cc:1: ", "stands in no folder of the order")

    def test_an_include_of_a_folder_outside_the_order(self):
        self.write("patrickstar/core/base/y.cc", '#include "patrickstar/util.h"\n')
        self.expect_one("patrickstar/core/base/y.cc:1: ", "stands in no folder of the order")

    def test_tests_are_included_by_nobody_else(self):
        self.write("tests/help.h", "#pragma once\n")
        self.write("tests/y.cc", '#include "tests/help.h"\n')
        self.expect_clean()
        self.write("apps/cli/y.cc", '#include "tests/help.h"\n')
        self.expect_one("apps/cli/y.cc:1: ", "included by nobody else")

    def test_long_files_of_core_are_warned_about(self):
        self.write("patrickstar/core/base/y.cc", "\n" * 301)
        self.write("patrickstar/core/base/y.h", "#pragma once\n" + "\n" * 150)
        self.write("patrickstar/core/base/z.cc", "\n" * 300)
        self.write("patrickstar/bridge/y.cc", "\n" * 1000)
        self.expect_clean()
        warnings = [str(finding) for finding in check_layers.check(self.root)[2]]
        self.assertEqual([w.split(" warning: ")[1] for w in warnings], ["301 lines, more than 300", "151 lines, more than 150"])


if __name__ == "__main__":
    unittest.main()
