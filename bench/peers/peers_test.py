#!/usr/bin/env python3
"""bench/peers without its peers: figures of made-up runs, the generator, and run.py with stand-ins for all programs."""

import ctypes
import importlib
import json
import os
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import batches
import disk
import environment
import programs
import report

GB = 10**9


def made_up(kind, seconds, rss, others=0.0, **more):
    warm_up = [99.0] * report.WARM_UP.get(kind, report.OTHERS_WARM_UP)
    steps = warm_up + seconds
    return {"kind": kind, "step_seconds": steps, "peak_rss_bytes": rss, "others": others, "losses": [10.8] * len(steps),
            "disk_read_bytes_per_step": [0] * len(warm_up) + [7 * GB] * len(seconds),
            "disk_written_bytes_per_step": [0] * len(warm_up) + [6 * GB] * len(seconds), **more}  # fmt: skip


def made_up_round(nvme=10.0, others=0.0):
    return {
        "deepspeed_nvme": made_up("deepspeed_nvme", [nvme, 1.12 * nvme, 1.1 * nvme], 8 * GB),
        "deepspeed_nvme_lean": made_up("deepspeed_nvme_lean", [9.0, 9.0, 9.0], 6 * GB),
        "torch": made_up("torch", [2.0, 2.0, 2.0], 7 * GB),
        "ours_fits": made_up("ours_fits", [1.5, 1.4, 1.6], 6 * GB, model_data_bytes=5 * GB, peak_non_model_bytes=GB),
        "ours_small": made_up("ours_small", [4.3, 4.8, 4.5], 3 * GB, others, budget_bytes=3 * GB, disk_seconds=[3.6, 3.0]),
    }


class Report(unittest.TestCase):
    def test_medians_are_those_after_the_warm_up(self):
        self.assertEqual(report.step(made_up("ours_small", [4.0, 5.0, 4.5], GB)), 4.5)
        self.assertEqual(report.step(made_up("torch", [2.0, 3.0], GB)), 2.5)
        self.assertEqual(report.traffic(made_up("torch", [2.0], GB)), (7 * GB, 6 * GB))

    def test_the_small_budget_leaves_room_for_the_process(self):
        budget = report.small_budget(7_400_000_000)
        self.assertEqual(budget % report.MIB, 0)
        self.assertLessEqual(budget + report.PROCESS_EXTRA, 0.4 * 7_400_000_000)
        self.assertGreater(budget + report.PROCESS_EXTRA + report.MIB, 0.4 * 7_400_000_000)

    def test_the_traffic_bound(self):
        fits = made_up_round()["ours_fits"]
        self.assertEqual(report.traffic_bound(3 * GB, fits), 6 * GB)
        self.assertEqual(report.traffic_bound(7 * GB, fits), 0)

    def test_the_limit_is_the_larger_of_compute_and_disk_at_their_fastest(self):
        r = made_up_round()
        self.assertEqual(report.limit(r), 3.0)
        r["ours_small"]["disk_seconds"] = [1.0, 2.0]
        self.assertEqual(report.limit(r), 1.4)

    def test_ratios_are_taken_within_a_round(self):
        rounds = [made_up_round(nvme=17.0), made_up_round(nvme=8.0), made_up_round(nvme=10.0)]
        rounds[0]["ours_small"] = made_up("ours_small", [9.0, 9.0], 3 * GB, budget_bytes=3 * GB, disk_seconds=[6.0, 6.0])
        found = report.results(rounds)
        # Of the medians over all rounds the ratio would be 4.5 / 11.
        self.assertAlmostEqual(found["time_to_deepspeed_nvme"], 9 / 18.7)
        self.assertEqual(found["memory_to_deepspeed_nvme"], 3 / 8)
        self.assertEqual(found["time_fits_to_torch"], 0.75)
        self.assertEqual((found["limit_seconds"], found["time_to_limit"]), (3.0, 1.5))
        self.assertEqual(found["traffic_bound_bytes"], 6 * GB)

    def test_busy_rounds_do_not_count_unless_all_are(self):
        quiet, busy = made_up_round(nvme=10.0), made_up_round(nvme=20.0, others=report.BUSY + 0.01)
        found = report.results([busy, quiet])
        self.assertAlmostEqual(found["time_to_deepspeed_nvme"], 4.5 / 11)
        self.assertEqual(report.heading(found), "medians of 1 of 2 rounds")
        self.assertEqual((report.results([busy, busy])["rounds"], report.results([busy, busy])["quiet"]), (2, False))

    def test_an_empty_round_does_not_count(self):
        busy = made_up_round(others=report.BUSY + 0.01)
        found = report.results([busy, busy, {}])
        self.assertEqual((found["rounds"], found["rounds_run"]), (2, 3))
        self.assertEqual(found["time_fits_to_torch"], 0.75)
        self.assertEqual(report.heading(report.results([{}])), "medians of 0 of 1 rounds")

    def test_that_no_round_was_quiet_is_said(self):
        found = report.results([made_up_round(others=report.BUSY + 0.01)] * 3)
        self.assertEqual(report.heading(found), f"medians of 3 of 3 rounds, none of them quiet: others used more than {report.BUSY} cores")
        self.assertIn("all fits: step / plain PyTorch's: 0.750 (aim: at most 0.85: holds, but no round was quiet)", report.verdicts(found))

    def test_a_run_is_steady_if_its_counted_steps_are_alike(self):
        self.assertTrue(report.steady(made_up("torch", [2.0, 2.3], GB)))
        self.assertFalse(report.steady(made_up("torch", [2.0, 2.31], GB)))
        self.assertFalse(report.steady(made_up("torch", [2.0], GB)))

    def test_times_are_of_steady_rounds_if_there_are_any(self):
        noisy, calm = made_up_round(), made_up_round()
        noisy["torch"] = made_up("torch", [3.48, 2.01, 2.68, 3.05], 7 * GB)
        verdict = "all fits: step / plain PyTorch's: 0.750 (aim: at most 0.85: holds"
        found = report.results([noisy, calm, calm])
        self.assertEqual((found["time_fits_to_torch"], found["taken_over"]["time_fits_to_torch"]), (0.75, {"rounds": 2, "steady": True}))
        self.assertEqual(found["steps"]["torch"], {"median_seconds": 2.0, "fastest_seconds": 2.0, "slowest_seconds": 3.48, "rounds": 3,
                                                   "steady_rounds": 2})  # fmt: skip
        self.assertIn(f"{verdict})", report.verdicts(found))
        # Pairs of others are not touched, nor are peaks.
        self.assertEqual(found["taken_over"]["time_to_deepspeed_nvme"], {"rounds": 3, "steady": True})
        self.assertEqual(found["taken_over"]["memory_to_deepspeed_nvme"], {"rounds": 3})
        self.assertIn(f"{verdict}, one round)", report.verdicts(report.results([noisy, calm, noisy])))

    def test_the_limit_is_of_steady_rounds_too(self):
        noisy = made_up_round()
        noisy["ours_fits"] = made_up("ours_fits", [6.0, 9.0], 6 * GB, model_data_bytes=5 * GB, peak_non_model_bytes=GB)
        found = report.results([noisy, made_up_round()])
        self.assertEqual((found["limit_seconds"], found["time_to_limit"]), (3.0, 1.5))
        self.assertTrue(report.verdicts(found)[-1].endswith("at the disk's speed), one round"))

    def test_that_no_round_was_steady_is_said(self):
        noisy = made_up_round()
        noisy["torch"] = made_up("torch", [3.48, 2.01, 2.68, 3.05], 7 * GB)
        found = report.results([noisy, noisy])
        self.assertAlmostEqual(found["time_fits_to_torch"], 1.5 / 2.865)
        self.assertEqual(found["taken_over"]["time_fits_to_torch"], {"rounds": 2, "steady": False})
        self.assertIn("all fits: step / plain PyTorch's: 0.524 (aim: at most 0.85: holds, but no round was steady: steps of PyTorch fused "
                      "AdamW 2.01 to 3.48 s)", report.verdicts(found))  # fmt: skip
        # Nor was one quiet; and both of a pair are named.
        noisy["ours_fits"] = made_up("ours_fits", [3.0, 4.0], 6 * GB, 1.0, model_data_bytes=5 * GB, peak_non_model_bytes=GB)
        self.assertIn("missed, but no round was quiet and no round was steady: steps of PatrickStar all fits 3.00 to 4.00 s, of PyTorch "
                      "fused AdamW 2.01 to 3.48 s)", report.verdicts(report.results([noisy]))[2])  # fmt: skip

    def test_the_time_is_held_against_the_faster_nvme_mode(self):
        rounds = [made_up_round(), made_up_round()]
        plain = "small budget: step / DeepSpeed NVMe's: 0.409 (aim: at most 0.5: holds)"
        self.assertIn(plain, report.verdicts(report.results(rounds)))
        for r in rounds:
            r["deepspeed_nvme_pipelined"] = made_up("deepspeed_nvme_pipelined", [12.0, 12.0], 9 * GB)
        lines = report.verdicts(report.results(rounds))
        self.assertIn(plain, lines)
        self.assertIn("pipelined DeepSpeed NVMe: step / DeepSpeed NVMe's without: 1.091", lines)
        for r in rounds:
            r["deepspeed_nvme_pipelined"] = made_up("deepspeed_nvme_pipelined", [6.0, 6.0], 9 * GB)
        found = report.results(rounds)
        self.assertTrue(found["pipelined_is_faster"])
        self.assertIn("small budget: step / pipelined DeepSpeed NVMe's, the faster one: 0.750 (aim: at most 0.5: missed)", report.verdicts(found))
        self.assertNotIn(plain, report.verdicts(found))
        self.assertEqual(found["memory_to_deepspeed_nvme"], 3 / 8)

    def test_what_was_not_measured_is_said(self):
        rounds = [made_up_round()]
        del rounds[0]["deepspeed_nvme"], rounds[0]["deepspeed_nvme_lean"], rounds[0]["ours_fits"]
        found = report.results(rounds)
        self.assertIsNone(found["time_to_deepspeed_nvme"])
        self.assertIsNone(found["limit_seconds"])
        self.assertEqual([line.endswith("not measured") for line in report.verdicts(found)], [True, True, True])
        self.assertNotIn("DeepSpeed", report.table(rounds))
        report.table([{}])

    def test_the_table(self):
        noisy = made_up_round()
        noisy["torch"] = made_up("torch", [3.0, 2.0, 4.0], 7 * GB)
        rows = {line[:26].strip(): line[26:].split() for line in report.table([made_up_round(), noisy]).splitlines()}
        self.assertEqual(rows["PatrickStar, small budget"][:8], ["4.50", "4.30", "4.80", "2/2", "3.00", "7.00", "6.00", "0.00"])
        self.assertEqual(rows["PyTorch, fused AdamW"][:5], ["2.50", "2.00", "4.00", "1/2", "7.00"])
        lines = report.verdicts(report.results([made_up_round(), made_up_round()]))
        self.assertIn("small budget: memory / DeepSpeed NVMe's: 0.375 (aim: at most 0.4: holds)", lines)
        self.assertIn("all fits: step / plain PyTorch's: 0.750 (aim: at most 0.85: holds)", lines)
        self.assertIn("small budget: memory / lean DeepSpeed NVMe's: 0.500", lines)
        self.assertIn("small budget: step / lean DeepSpeed NVMe's: 0.500", lines)
        self.assertIn("small budget: step / limit: 1.500 (limit 3.00 s: the larger of compute and 6.00 GB at the disk's speed)", lines)
        missed = report.results([made_up_round(nvme=5.0)])
        self.assertIn("small budget: step / DeepSpeed NVMe's: 0.818 (aim: at most 0.5: missed, one round)", report.verdicts(missed))


class DeepSpeed(unittest.TestCase):
    def configuration(self, offload, pipeline):
        """Of deepspeed_train.py, without what it imports."""
        model = types.SimpleNamespace(BETAS=None, SHAPES={"one": (7, 5, 1, 3, 1)}, LanguageModel=None, parameter_groups=None)
        absent = {name: mock.MagicMock() for name in ("deepspeed", "deepspeed.ops", "deepspeed.ops.adam", "torch", "child")}
        with mock.patch.dict(sys.modules, absent | {"model": model}), mock.patch.dict(os.environ):
            train = importlib.import_module("deepspeed_train")
        return train.configuration(types.SimpleNamespace(offload=offload, pipeline=pipeline, nvme_path="there", batch_size=2))

    def test_pipelining_changes_the_nvme_modes_states_alone(self):
        for offload in ("nvme", "nvme_lean"):
            without, pipelined = (self.configuration(offload, pipeline) for pipeline in (False, True))
            states = without["zero_optimization"]["offload_optimizer"]
            self.assertEqual(states, {"device": "nvme", "nvme_path": "there"})
            states.update(pipeline_read=True, pipeline_write=True, buffer_count=12)
            self.assertEqual(pipelined, without)
        self.assertEqual(self.configuration("cpu", False)["zero_optimization"]["offload_optimizer"], {"device": "cpu"})


class Batches(unittest.TestCase):
    def test_the_generator_is_the_standards(self):
        random = batches.MersenneTwister64(5489)
        for _ in range(9999):
            random()
        self.assertEqual(random(), 9981545732273789042)  # [rand.predef] of the C++ standard

    def test_targets_are_the_next_tokens_of_the_first_nine_tenths(self):
        text = bytes(range(100))
        source = batches.Batches(text, 3, 8, 1)
        for _ in range(50):
            tokens, targets = source.next()
            for row, following in zip(tokens, targets, strict=True):
                self.assertEqual(len(row), 8)
                self.assertEqual(row[1:], following[:-1])
                self.assertLess(following[-1], 90)


class Disk(unittest.TestCase):
    def test_nothing_takes_no_time_and_touches_no_disk(self):
        self.assertEqual(disk.seconds("/nonexistent", 0), 0.0)

    def test_the_buffer_is_aligned(self):
        block = disk.buffer()
        self.assertEqual(ctypes.addressof(ctypes.c_char.from_buffer(block)) % disk.HUGE_PAGE, 0)
        self.assertEqual(len(block), disk.BLOCK)


class Measure(unittest.TestCase):
    def test_peak_rss_is_the_childs(self):
        run = programs.measure([sys.executable, "-c", "x = b'1' * (200 << 20)"], None)
        self.assertTrue(200 << 20 < run["peak_rss_bytes"] < 260 << 20, run)

    def test_a_failure_says_the_last_line(self):
        with self.assertRaisesRegex(programs.RunFailed, "ended with 3: no room$"):
            programs.measure([sys.executable, "-c", "import sys; print('opening\\nno room\\n'); sys.exit(3)"], None)


STAND_IN = """#!{python}
import json, os, sys
options = sys.argv[1:]
value = lambda name: options[options.index(name) + 1]
here = os.path.dirname(os.path.abspath(__file__))
if "-c" in options:
    sys.exit(0)
with open(here + "/calls", "a") as log:
    log.write(" ".join(options) + "\\n")
kind = value("--offload") if "--offload" in options else os.path.basename(options[0])
if "--pipeline" in options:
    kind += "_pipelined"
    if os.path.exists(here + "/broken_pipeline"):
        sys.exit("no pipeline")
if kind.startswith("nvme"):
    assert os.listdir(value("--nvme-path")) == []
if kind == "nvme":
    if os.path.exists(here + "/broken"):
        sys.exit("no such operator")
    x = b"1" * (800 << 20)
steps = int(value("--steps"))
seconds = dict(nvme=10.0, nvme_pipelined=9.0, nvme_lean=8.0, cpu=5.0, train=1.0).get(kind, 2.0)
budget = int(value("--memory-budget")) if "--memory-budget" in options else 0
json.dump(dict(losses=[10.8] * steps, step_seconds=[seconds] * steps, disk_read_bytes_per_step=[1] * steps,
    disk_written_bytes_per_step=[1] * steps, budget_bytes=budget, model_data_bytes=10 << 20, peak_non_model_bytes=1 << 20), open(value("--summary"), "w"))
"""


class Run(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        (self.root / "venv/bin").mkdir(parents=True)
        for name in ("patrickstar", "venv/bin/python"):
            (self.root / name).write_text(STAND_IN.replace("{python}", sys.executable))
            (self.root / name).chmod(0o755)
        (self.root / "text").write_text("In the beginning")

    def run_it(self, *more):
        root = self.root
        done = subprocess.run([sys.executable, "-B", HERE / "run.py", "--setup", "no", "--program", root / "patrickstar", "--venv", root / "venv",
                               "--data", root / "text", "--rounds", "2", "--spill-dir", root, "--output", root / "out.json", *more],
                              capture_output=True, text=True)  # fmt: skip
        return done, json.loads((root / "out.json").read_text())

    def test_rounds_of_all_programs(self):
        done, found = self.run_it()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([list(r) for r in found["rounds"]], [list(report.TITLES)] * 2)
        self.assertEqual(found["results"]["time_to_deepspeed_nvme"], 0.1)
        self.assertEqual(found["results"]["time_to_deepspeed_nvme_lean"], 0.125)
        self.assertEqual(found["results"]["time_fits_to_torch"], 0.5)
        first = found["rounds"][0]
        self.assertEqual(found["budget_bytes"], report.small_budget(first["deepspeed_nvme"]["peak_rss_bytes"]))
        budgets = [line.split("--memory-budget ")[1].split()[0] for line in (self.root / "calls").read_text().splitlines()]
        self.assertEqual(budgets, [str(10 << 30), str(found["budget_bytes"])] * 2)
        self.assertIn("all fits: step / plain PyTorch's: 0.500", done.stdout)
        self.assertEqual([p.name for p in self.root.iterdir() if p.name.startswith("peers_")], [])

    def test_a_peer_that_fails_is_reported_and_the_others_go_on(self):
        (self.root / "venv/bin/broken").touch()
        done, found = self.run_it("--budget", str(64 << 20))
        self.assertEqual(done.returncode, 1)
        self.assertEqual(list(found["rounds"][0]), ["deepspeed_nvme_pipelined", "deepspeed_nvme_lean", "deepspeed_cpu", "torch", "ours_fits", "ours_small"])
        self.assertIn("no such operator", found["failures"][0]["error"])
        self.assertIn("small budget: step / DeepSpeed NVMe's: not measured", done.stdout)
        self.assertEqual(found["rounds"][0]["ours_small"]["disk_seconds"], [0.0, 0.0])

    def test_pipelining_is_another_program_and_left_out_once_it_has_failed(self):
        done, found = self.run_it()
        self.assertEqual(found["rounds"][1]["deepspeed_nvme_pipelined"]["step_seconds"][0], 9.0)
        self.assertIn("small budget: step / pipelined DeepSpeed NVMe's, the faster one: 0.111", done.stdout)
        (self.root / "venv/bin/broken_pipeline").touch()
        done, found = self.run_it()
        self.assertEqual([(failure["kind"], failure["round"]) for failure in found["failures"]], [("deepspeed_nvme_pipelined", 1)])
        self.assertIn("no pipeline", found["failures"][0]["error"])
        self.assertEqual([len(r) for r in found["rounds"]], [len(report.TITLES) - 1] * 2)
        self.assertIn("small budget: step / DeepSpeed NVMe's: 0.100", done.stdout)

    def test_without_deepspeed_there_is_no_small_budget(self):
        done, found = self.run_it("--kinds", "torch", "ours_small")
        self.assertEqual(done.returncode, 1)
        self.assertIn("give --budget", found["failures"][0]["error"])


class Environment(unittest.TestCase):
    def test_the_torch_that_scripts_setup_pins(self):
        self.assertIn(f"TORCH_VERSION={environment.TORCH_VERSION}\n", (HERE.parents[1] / "scripts/setup").read_text())

    def test_an_interpreter_that_is_not_there_answers_nothing(self):
        self.assertIsNone(environment.answer("/nonexistent/python", "print(1)"))
        self.assertEqual(environment.answer(sys.executable, "print(1)"), "1")


if __name__ == "__main__":
    unittest.main()
