#!/usr/bin/env python3
"""PatrickStar against its peers in one run: DeepSpeed ZeRO-3 with NVMe and with CPU offload, and plain PyTorch, on the same model,
text and initial weights, without clipping. Rounds of one child process each, one at a time: medians, ratios within each round, the
limit beside ours, losses beside each other. Installs what it compares with into a virtual environment of its own (README.md).

Prints a table and writes raw samples to bench/results. It judges nothing.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "bench"))
import disk
import environment
import programs
import report
from machine import machine


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/bin/patrickstar")
    parser.add_argument("--venv", type=Path, default=ROOT / ".cache/peers", help="made if it is not there")
    parser.add_argument("--torch-venv", type=Path, default=ROOT / ".venv", help="its torch is used, if it is the right one")
    parser.add_argument("--setup", choices=["yes", "no", "only"], default="yes", help="install and compile the peers first")
    parser.add_argument("--data", default=str(ROOT / "data/kjv.txt"))
    parser.add_argument("--model", default="gpt2-medium")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="of the peers and of ours where all fits")
    parser.add_argument("--small-steps", type=int, default=8, help="of ours in the small budget")
    parser.add_argument("--budget", type=int, help="bytes (default: from DeepSpeed NVMe's peak RSS of the first round)")
    parser.add_argument("--fits-budget", type=int, default=10 << 30, help="bytes that hold everything")
    parser.add_argument("--kinds", nargs="+", choices=report.TITLES, default=list(report.TITLES))
    parser.add_argument("--spill-dir", default="/var/tmp", help="on the disk under test")
    parser.add_argument("--output", default=str(ROOT / f"bench/results/peers_cpu_{time.strftime('%Y%m')}.json"))
    o = parser.parse_args()
    o.program, o.venv, o.torch_venv, o.data = o.program.absolute(), o.venv.absolute(), o.torch_venv.absolute(), os.path.abspath(o.data)
    return o


class Bench:
    def __init__(self, options):
        self.o, self.programs = options, programs.Programs(options)
        self.budget = options.budget
        self.rounds, self.failures = [], []

    def _small(self, done):
        if self.budget is None:
            if "deepspeed_nvme" not in done:
                raise programs.RunFailed("the small budget follows from DeepSpeed NVMe's peak RSS, which there is not: give --budget")
            self.budget = report.small_budget(done["deepspeed_nvme"]["peak_rss_bytes"])
            environment.say(f"the small budget: {self.budget / report.MIB:.0f} MiB")
        bound = report.traffic_bound(self.budget, done["ours_fits"]) if "ours_fits" in done else 0
        before = disk.seconds(self.o.spill_dir, bound)
        run = self.programs.ours("ours_small", self.budget, self.o.small_steps)
        return run | {"disk_seconds": [before, disk.seconds(self.o.spill_dir, bound)]}

    def _one(self, kind, done):
        if kind == "ours_small":
            return self._small(done)
        if kind == "ours_fits":
            return self.programs.ours(kind, self.o.fits_budget, self.o.steps)
        return getattr(self.programs, kind)()

    def _kinds(self):
        """Those of this round. Pipelining may not be there for DeepSpeed's CPU accelerator, so it is left out once it has failed."""
        failed = {failure["kind"] for failure in self.failures} & {"deepspeed_nvme_pipelined"}
        return [kind for kind in report.TITLES if kind in self.o.kinds and kind not in failed]

    def round(self):
        done = {}
        for kind in self._kinds():
            try:
                done[kind] = self._one(kind, done)
            except programs.RunFailed as failure:
                environment.say(f"{kind}: {failure}")
                self.failures.append({"kind": kind, "round": len(self.rounds) + 1, "error": str(failure)})
                continue
            run = done[kind]
            steps = " ".join(f"{seconds:.2f}" for seconds in run["step_seconds"])
            environment.say(f"round {len(self.rounds) + 1}, {kind}: steps {steps} s, peak RSS {run['peak_rss_bytes'] / 1e9:.2f} GB, others used "
                            f"{run['others']:.2f} cores")  # fmt: skip
        self.rounds.append(done)

    def write(self):
        commit = subprocess.run([f"{ROOT}/tools/commit"], capture_output=True, text=True).stdout.strip()
        text = {"benchmark": "peers", "command": " ".join(sys.argv), "commit": commit, "machine": machine(),
                "kernel": platform.release(), "packages": environment.versions(self.o.venv),
                "options": {key: str(value) if isinstance(value, Path) else value for key, value in vars(self.o).items()},
                "budget_bytes": self.budget, "results": report.results(self.rounds), "failures": self.failures, "rounds": self.rounds}  # fmt: skip
        Path(self.o.output).write_text(json.dumps(text, indent=1) + "\n")


def main():
    o = parse()
    for file in (o.program, Path(o.data)):
        if not file.is_file() and o.setup != "only":
            sys.exit(f"peers: error: {file} is missing: scripts/quickstart makes it")
    if o.setup != "no":
        environment.ensure_packages()
        environment.ensure_venv(o.venv, o.torch_venv)
        environment.compile_operators(o.venv)
    if o.setup == "only":
        return
    bench = Bench(o)
    for _ in range(o.rounds):
        bench.round()
        bench.write()  # after each, so that an interruption loses one round at most
    found = report.results(bench.rounds)
    print(f"\n{o.model}, batch {o.batch_size} x {o.sequence_length}, bf16; {report.heading(found)}\n\n{report.table(bench.rounds)}\n")
    print("\n".join(report.verdicts(found)))
    print(f"\nraw samples: {o.output}")
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    main()
