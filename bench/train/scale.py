#!/usr/bin/env python3
"""Issue B, "Scale": gpt2-xl in 4 GiB and llama-3b in 6 GiB, a few steps each. The first loss must be, bit for bit, that of a forward
pass on plain LibTorch (--plain --forward-only: 2 bytes a parameter). Beside step times and traffic stand the bounds of the recorded
step (patrickstar replay) at the disk's speed, measured with O_DIRECT right after: once with its compute as it was recorded, of a step
that was watched and fetched on demand, and once with that of the last step, less what it stalled. Then gpt2 for 20 steps on one
repeated batch.

Writes figures and verdicts to bench/results after each part. Exit code 1 when a line does not hold.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench/peers"), str(ROOT / "bench")]
import disk
from machine import machine

GIB, MIB = 1 << 30, 1 << 20
PROBE = 3 << 30  # bytes moved to see how fast the disk is
JOBS = {  # model: budget, steps
    "gpt2-xl": (4 * GIB, 4),
    "llama-3b": (6 * GIB, 3),
}
SHAPE = ["--batch-size", "1", "--sequence-length", "256", "--checkpoint-activations"]


def train(program, arguments):
    with tempfile.NamedTemporaryFile(suffix=".json") as summary:
        command = [program, "train", "--data", "data/kjv.txt", *arguments, "--summary", summary.name]
        print("$ " + " ".join(command[1:]), flush=True)
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-400:])
        return json.loads(Path(summary.name).read_text())


def with_compute(trace, seconds):
    """The text of a trace whose moments compute so long together, each in proportion (docs/formats.md)."""
    lines = trace.splitlines(keepends=True)
    moments = [i for i in range(lines.index("moments\n") + 1, len(lines) - 1) if not lines[i].startswith("#")]
    factor = seconds * 1e9 / sum(int(lines[i].split(" ", 1)[0]) for i in moments)
    for i in moments:
        compute, rest = lines[i].split(" ", 1)
        lines[i] = f"{round(int(compute) * factor)} {rest}"
    return "".join(lines)


def bounds_of(program, trace, budget, bandwidth):
    done = subprocess.run([program, "replay", "--trace", trace, "--tier", f"host={budget}", "--tier", f"disk=200GB,bandwidth={int(bandwidth)}B/s",
                           "--steps", "4", "--json"], capture_output=True, text=True)  # fmt: skip
    return json.loads(done.stdout)["bounds"] if done.returncode == 0 else {"error": done.stderr.strip()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/patrickstar"))
    parser.add_argument("--models", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--spill-dir", default="/var/tmp")
    parser.add_argument("--output", default=str(ROOT / f"bench/results/scale_cpu_{time.strftime('%Y%m')}.json"))
    options = parser.parse_args()
    lines, runs = [], []

    def check(holds, text):
        lines.append({"holds": bool(holds), "line": text})
        print(("ok      " if holds else "FAILED  ") + text, flush=True)

    def write():
        commit = subprocess.run([f"{ROOT}/tools/commit"], capture_output=True, text=True).stdout.strip()
        report = {"benchmark": "scale", "command": " ".join(sys.argv), "commit": commit, "machine": machine(),
                  "holds": all(line["holds"] for line in lines), "lines": lines, "runs": runs}  # fmt: skip
        Path(options.output).write_text(json.dumps(report, indent=1) + "\n")

    for model in options.models:
        budget, steps = JOBS[model]
        shape = ["--model", model, *SHAPE]
        with tempfile.NamedTemporaryFile(suffix=".trace") as trace:
            ours = train(options.program, [*shape, "--steps", str(steps), "--memory-budget", str(budget), "--spill-dir", options.spill_dir,
                                           "--trace", trace.name])  # fmt: skip
            bandwidth = PROBE / disk.seconds(options.spill_dir, PROBE)
            bounds = bounds_of(options.program, trace.name, budget, bandwidth)
            # Stalls are threads' waits: several at once could make more than the step.
            computed = ours["step_seconds"][-1] - ours["stalled_seconds_per_step"][-1]
            planned = {"error": "the last step stalled longer than it took"}
            if computed > 0:
                Path(trace.name).write_text(with_compute(Path(trace.name).read_text(), computed))
                planned = bounds_of(options.program, trace.name, budget, bandwidth)
        forward = train(options.program, [*shape, "--steps", "1", "--plain", "--forward-only"])
        check("limit_s" in bounds, f"{model}: the recorded step is replayed")
        moved = [r + w for r, w in zip(ours["disk_read_bytes_per_step"], ours["disk_written_bytes_per_step"])]
        runs.append({"model": model, "bounds": bounds, "bounds_with_last_steps_compute": planned, "disk_bytes_per_second": bandwidth,
                     "ours": ours, "forward_loss_hex": forward["losses_hex"][0]})  # fmt: skip
        check(ours["peak_total_bytes"] <= budget and ours["peak_rss_bytes"] <= budget + 256 * MIB,
              f"{model}: {ours['parameters'] / 1e9:.2f}B parameters, {ours['model_data_bytes'] / 1e9:.1f} GB of model data, {steps} steps in "
              f"{budget / GIB:.0f} GiB: peak {ours['peak_total_bytes'] / MIB:.0f} MiB, RSS {ours['peak_rss_bytes'] / MIB:.0f} MiB")  # fmt: skip
        check(ours["losses_hex"][0] == forward["losses_hex"][0], f"{model}: first loss {ours['losses'][0]} = plain forward, bit for bit")
        print("        steps " + ", ".join(f"{s:.1f} s ({b / 1e9:.1f} GB)" for s, b in zip(ours["step_seconds"], moved)), flush=True)
        for whose, limit in (("of the watched step, on demand", bounds), ("of the last step, less its stalls", planned)):
            if "limit_s" not in limit:
                print(f"        no limit with compute {whose}: {limit['error']}", flush=True)
                continue
            least = limit["least_read_bytes"] + limit["least_written_bytes"]
            print(f"        limit {limit['limit_s']:.1f} s (compute {limit['compute_s']:.1f} {whose}; transfers {limit['transfers_s']:.1f}, window "
                  f"{limit['window_s']:.1f}) at {bandwidth / 1e9:.2f} GB/s; least traffic {least / 1e9:.1f} GB; last step "
                  f"{ours['step_seconds'][-1] / limit['limit_s']:.2f} x limit, {moved[-1] / least:.2f} x least traffic", flush=True)  # fmt: skip
        write()

    repeated = train(options.program, ["--model", "gpt2", "--steps", "20", "--memory-budget", "1.2GiB", "--repeat-batch", "--spill-dir", options.spill_dir])
    runs.append({"model": "gpt2, one batch", "ours": repeated})
    first, last = repeated["losses"][0], repeated["losses"][-1]
    check(last < 0.9 * first, f"gpt2, 20 steps on one batch: loss {first:.4f} to {last:.4f}")
    write()
    sys.exit(0 if all(line["holds"] for line in lines) else 1)


if __name__ == "__main__":
    main()
