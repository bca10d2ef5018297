#!/usr/bin/env python3
"""Issue B on the machine: a preset at budgets of 25, 50, 75 % (design.md: peak non-model bytes of the plain run + x % of its model
data), each at several batch sizes, so that compute is about 0.5, 1 and 2 x the transfers. Beside each step time its limit: compute
is the step of a run that holds everything; the disk's time is that of a step's bytes, read and written side by side in tiles with
no compute, taken right before and right after (runs where the two differ by more than 10 % are marked).

Prints a table and writes raw samples to bench/results. It judges nothing.
"""

import argparse
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TILE = 12 << 20
SLOTS = 64  # of the scratch file for the disk's time


def disk_seconds(folder, read, written):
    """How long `read` and `written` bytes take with O_DIRECT in tiles, reads and writes at once from two threads."""
    with tempfile.NamedTemporaryFile(dir=folder) as scratch:
        file = os.open(scratch.name, os.O_RDWR | os.O_DIRECT)
        try:
            buffers = [mmap.mmap(-1, TILE) for _ in range(2)]
            for slot in range(SLOTS):
                os.pwrite(file, buffers[0], slot * TILE)

            def reads():
                for i in range(read // TILE):
                    os.preadv(file, [buffers[0]], i % SLOTS * TILE)

            def writes():
                for i in range(written // TILE):
                    os.pwrite(file, buffers[1], (i + SLOTS // 2) % SLOTS * TILE)

            threads = [threading.Thread(target=work) for work in (reads, writes)]
            start = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return time.monotonic() - start
        finally:
            os.close(file)


def train(options, batch, arguments, steps):
    with tempfile.NamedTemporaryFile(suffix=".json") as summary:
        command = [options.program, "train", "--data", "data/kjv.txt", "--model", options.model, "--batch-size", str(batch), "--steps", str(steps),
                   "--spill-dir", options.spill_dir, *arguments, "--summary", summary.name]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(Path(summary.name).read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/patrickstar"))
    parser.add_argument("--model", default="gpt2-medium")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--shares", type=int, nargs="+", default=[25, 50, 75])
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--schedules", nargs="+", default=["overlapped"])
    parser.add_argument("--spill-dir", default="/var/tmp")
    parser.add_argument("--output", default=str(ROOT / f"bench/results/budgets_cpu_{time.strftime('%Y%m')}.json"))
    options = parser.parse_args()
    rows = []
    print("batch  schedule    room   step s   limit s  ratio  compute s  disk s (before, after)  stalled s  traffic/LB", flush=True)
    for batch in options.batches:
        fits = train(options, batch, ["--memory-budget", "14GiB"], 4)
        compute = statistics.median(fits["step_seconds"][1:])
        model = 14 * fits["parameters"]
        for schedule in options.schedules:
            for share in options.shares:
                budget = fits["peak_non_model_bytes"] + model * share // 100
                bound = 2 * model * (100 - share) // 100
                before = disk_seconds(options.spill_dir, bound // 2, bound // 2)
                run = train(options, batch, ["--memory-budget", str(budget), "--update-schedule", schedule], options.steps)
                after = disk_seconds(options.spill_dir, bound // 2, bound // 2)
                followed = slice(3, None)  # the plan is made after two steps and settles in the third
                step = statistics.median(run["step_seconds"][followed])
                moved = statistics.median(r + w for r, w in zip(run["disk_read_bytes_per_step"][followed], run["disk_written_bytes_per_step"][followed]))
                limit = max(compute, min(before, after))
                rows.append({"batch": batch, "schedule": schedule, "share": share, "budget": budget, "step": step, "compute": compute, "disk": [before, after],
                             "steady": max(before, after) <= 1.1 * min(before, after), "limit": limit, "traffic_to_bound": moved / bound, "load": os.getloadavg(),
                             "exact": run["losses_hex"][:4] == fits["losses_hex"], "run": run})  # fmt: skip
                print(f"{batch:5}  {schedule:10}  {share:3} %  {step:7.2f}  {limit:7.2f}  {step / limit:5.2f}  {compute:9.2f}  {before:6.2f} {after:6.2f}"
                      f"{'' if rows[-1]['steady'] else ' (unsteady)':12}  {statistics.median(run['stalled_seconds_per_step'][followed]):8.2f}  {moved / bound:8.3f}"
                      f"{'' if rows[-1]['exact'] else '  LOSSES DIFFER'}", flush=True)  # fmt: skip
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    report = {"benchmark": "budgets", "command": " ".join(sys.argv), "commit": commit, "model": options.model, "cpus": os.cpu_count(), "rows": rows}
    Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if all(row["exact"] for row in rows) else 1)


if __name__ == "__main__":
    main()
