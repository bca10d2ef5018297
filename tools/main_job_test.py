#!/usr/bin/env python3
"""Runs scripts/main_job in a copy of its place with a stand-in for patrickstar that writes summaries."""

import importlib.machinery
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

MAIN_JOB = Path(__file__).resolve().parent.parent / "scripts/main_job"

STAND_IN = """#!{python}
import json, os, signal, sys
options = sys.argv[1:]
value = lambda name: options[options.index(name) + 1]
assert options[0] == "train" and value("--model") == "gpt2" and sys.stdin.read() == ""
here = os.path.dirname(__file__)
with open(here + "/calls", "a") as log:
    log.write(" ".join(options) + "\\n")
plain = "--plain" in options
kind = ("counting" if "--plain-allocator" in options else "plain") if plain else "budget"
changes = json.load(open(here + "/changes.json")).get(kind, dict())
if "signal" in changes:
    os.kill(os.getpid(), changes["signal"])
if not plain:
    assert os.path.isdir(value("--spill-dir"))
steps = int(value("--steps"))
losses = [10.9 - 0.1 * step for step in range(steps)]
summary = dict(
    parameters=124439808, model_data_bytes=124439808 * 14, budget_bytes=0 if plain else 1288490188,
    peak_model_bytes=1742157312 if plain else 900000000, peak_non_model_bytes=300000000,
    peak_total_bytes=2042157312 if plain else 1200000000, peak_rss_bytes=2300000000 if plain else 1400000000,
    smallest_budget_bytes=0 if plain else 700000000, losses=losses, losses_hex=[loss.hex() for loss in losses],
    weights_hash="00", step_seconds=[9.0] + [2.0 if plain else 3.0] * (steps - 1), tokens_per_second=100.0)
summary.update(changes)
json.dump(summary, open(value("--summary"), "w"))
"""


class MainJobTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        for folder in ("scripts", "data", "build/release/bin"):
            (self.root / folder).mkdir(parents=True)
        shutil.copy(MAIN_JOB, self.root / "scripts/main_job")
        (self.root / "data/kjv.txt").write_text("In the beginning")
        self.program = self.root / "build/release/bin/patrickstar"
        self.program.write_text(STAND_IN.replace("{python}", sys.executable))
        self.program.chmod(0o755)

    def run_job(self, *options, **changes):
        (self.program.parent / "changes.json").write_text(json.dumps(changes))
        return subprocess.run([sys.executable, self.root / "scripts/main_job", *options], capture_output=True, text=True, cwd="/")

    def test_the_table(self):
        done = self.run_job()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        rows = {line[:34].strip(): line[34:].split() for line in done.stdout.splitlines() if line.startswith("  ")}
        self.assertEqual(rows["model data"], ["1.62", "GiB", "1.62", "GiB"])
        self.assertEqual(rows["budget"], ["none", "1.20", "GiB"])
        self.assertEqual(rows["peak memory, counted"], ["1.90", "GiB", "1.12", "GiB"])
        self.assertEqual(rows["peak memory of the process (RSS)"], ["2.14", "GiB", "1.30", "GiB"])
        self.assertEqual(rows["budget that would do (estimate)"], ["-", "668", "MiB"])
        self.assertEqual(rows["loss of the first step"], ["10.9000", "10.9000"])
        self.assertEqual(rows["loss of step 20"], ["-", "9.0000"])
        self.assertEqual(rows["seconds per step"], ["2.00", "3.00"])
        self.assertEqual(rows["tokens per second"], ["256", "171"])
        self.assertIn("first 4 steps: the same bits as plain LibTorch's", done.stdout)
        self.assertIn("1.12 GiB instead of 1.90 GiB, 41% less", done.stdout)
        self.assertIn("1.50 times as long", done.stdout)
        calls = (self.program.parent / "calls").read_text().splitlines()
        self.assertEqual(len(calls), 3)
        self.assertIn("--plain --plain-allocator counting --steps 2", calls[0])
        self.assertIn("--plain --steps 4", calls[1])
        self.assertIn("--memory-budget 1.2GiB --spill-dir build/main_job/spill --steps 20", calls[2])

    def test_the_dtype_follows_the_processor_unless_it_is_given(self):
        loader = importlib.machinery.SourceFileLoader("main_job", str(MAIN_JOB))
        main_job = importlib.util.module_from_spec(importlib.util.spec_from_loader("main_job", loader))
        sys.dont_write_bytecode = True
        loader.exec_module(main_job)
        cpuinfo = self.root / "cpuinfo"
        for text, dtype in (("flags\t\t: fpu avx avx2 fma f16c\n", "fp32"), ("flags : avx2 avx512f avx512bw\n", "bf16"),
                            ("flags : avx2 avx_ne_convert\n", "bf16"), ("Features : fp asimd bf16\n", "bf16"),
                            ("Features : fp asimd\n", "fp32"), ("processor : 0\n", "bf16")):  # fmt: skip
            cpuinfo.write_text("processor : 0\n" + text)
            self.assertEqual(main_job.fast_dtype(cpuinfo), dtype, text)
        for dtype in ("bf16", "fp32"):
            done = self.run_job("--dtype", dtype)
            self.assertIn(f"data/kjv.txt, {dtype}, batch", done.stdout)
            self.assertNotIn("no bf16 instructions", done.stdout)
            calls = (self.program.parent / "calls").read_text().splitlines()
            self.assertEqual([f"--dtype {dtype} " in call for call in calls[-3:]], [True] * 3)

    def test_other_bits_fail(self):
        done = self.run_job(plain={"losses_hex": ["0x1.5cccccccccccdp+3", "0x1.0p+3"]})
        self.assertEqual(done.returncode, 1)
        self.assertIn("they differ from step 2 on", done.stdout)
        self.assertIn("the loss of step 2 is not the plain one bit for bit", done.stderr)

    def test_a_peak_over_the_budget_fails(self):
        done = self.run_job(budget={"peak_total_bytes": 1288490189})
        self.assertEqual(done.returncode, 1)
        self.assertIn("over the budget", done.stderr)

    def test_a_process_over_the_budget_fails(self):
        done = self.run_job(budget={"peak_rss_bytes": 1288490188 + (256 << 20) + 1})
        self.assertEqual(done.returncode, 1)
        self.assertIn("the process had 1.45 GiB", done.stderr)

    def test_a_loss_that_does_not_fall_fails(self):
        done = self.run_job(budget={"losses": [3.0, float("nan")]})
        self.assertEqual(done.returncode, 1)
        self.assertIn("the loss did not fall", done.stderr)

    def test_plain_that_does_not_fit_is_said(self):
        done = self.run_job(counting={"signal": 9})
        self.assertEqual(done.returncode, 0)
        self.assertIn("was killed by SIGKILL: not measured", done.stderr)
        self.assertIn("did not finish on this machine", done.stdout)

    def test_a_failed_run_is_an_error_without_a_table(self):
        self.run_job()
        done = self.run_job(budget={"signal": 15})
        self.assertEqual(done.returncode, 1)
        self.assertIn("was killed by SIGTERM", done.stderr)
        self.assertNotIn("seconds per step", done.stdout)

    def test_missing_text(self):
        (self.root / "data/kjv.txt").unlink()
        done = self.run_job()
        self.assertEqual(done.returncode, 1)
        self.assertIn("kjv.txt is missing", done.stderr)


if __name__ == "__main__":
    unittest.main()
