#!/usr/bin/env python3
"""Issue A with real presets, once: gpt2, 6 steps, at budgets of 100, 60, 30 % and the smallest, bit-equal to --plain; peaks,
RSS and the kernel's disk bytes against the summary; the hard limit of the system, under which --plain dies; gpt2-medium at
1 x 256 with checkpointing in 1.5 GiB. Writes figures and verdicts to bench/results. Exit code 1 when a line does not hold.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.path.insert(0, str(ROOT / "bench"))

from hard_limit import hard_limit
from machine import machine


def train(program, arguments, limit=None):
    """Runs the program; returns (exit code, summary or None, disk bytes read and written as the kernel counts them, stderr)."""
    with tempfile.NamedTemporaryFile(suffix=".json") as summary:
        command = [program, "train", "--data", "data/kjv.txt", *arguments, "--summary", summary.name]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, preexec_fn=limit and limit.enter)  # fmt: skip
        disk = (0, 0)
        while process.poll() is None:
            try:
                fields = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
                disk = (int(fields["read_bytes"]), int(fields["write_bytes"]))
            except (OSError, ValueError):
                pass
            time.sleep(0.02)
        text = Path(summary.name).read_text()
        return process.returncode, json.loads(text) if text else None, disk, process.stderr.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/patrickstar"))
    parser.add_argument("--output", default=str(ROOT / f"bench/results/presets_cpu_{time.strftime('%Y%m')}.json"))
    options = parser.parse_args()
    lines, runs = [], []

    def check(holds, text):
        lines.append({"holds": bool(holds), "line": text})
        print(("ok      " if holds else "FAILED  ") + text, flush=True)

    def record(name, summary, disk):
        keys = ("model_data_bytes budget_bytes peak_model_bytes peak_non_model_bytes steps_peak_non_model_bytes peak_total_bytes peak_rss_bytes smallest_budget_bytes "
                "losses_hex weights_hash step_seconds evictions disk_read_bytes disk_written_bytes traffic io_backend").split()  # fmt: skip
        runs.append({"name": name, "kernel_disk_bytes": disk, **{k: summary[k] for k in keys if k in summary}})

    shape = ["--model", "gpt2", "--steps", "6", "--batch-size", "2", "--sequence-length", "256"]
    code, plain, disk, error = train(options.program, [*shape, "--plain"])
    assert code == 0, error
    record("gpt2 plain", plain, disk)
    _, counting, disk, _ = train(options.program, [*shape, "--plain", "--plain-allocator", "counting"])
    record("gpt2 plain counting", counting, disk)
    non_model = counting["steps_peak_non_model_bytes"]  # while it is built, masters and moments are not told from the rest
    smallest = None
    for share in (100, 60, 30, 0):
        name = f"gpt2 {share} %" if share else "gpt2 smallest"
        model = 14 * plain["parameters"]
        budget = non_model + model * share // 100 if share else smallest
        code, ours, disk, error = train(options.program, [*shape, "--memory-budget", str(budget)])
        check(code == 0, f"{name}: runs in {budget / MIB:.0f} MiB {error.strip()[-300:] if code else ''}")
        if code != 0:
            continue
        record(name, ours, disk)
        smallest = ours["smallest_budget_bytes"]
        check(ours["losses_hex"] == plain["losses_hex"], f"{name}: losses equal plain's bit for bit")
        check(ours["weights_hash"] == plain["weights_hash"], f"{name}: weights, masters and moments equal plain's")
        check(ours["peak_total_bytes"] <= budget, f"{name}: ledger peak {ours['peak_total_bytes'] / MIB:.0f} MiB within the budget")
        check(ours["peak_rss_bytes"] <= budget + 256 * MIB, f"{name}: peak RSS {ours['peak_rss_bytes'] / MIB:.0f} MiB <= budget + 256 MiB")
        if share != 100:
            told = ours["disk_read_bytes"] + ours["disk_written_bytes"]
            check(ours["evictions"] > 0 and all(ours["traffic"][kind]["read_bytes"] > 0 for kind in ("param", "state")),
                  f"{name}: {ours['evictions']} evictions, {told / 1e9:.2f} GB moved")  # fmt: skip
            check(abs(sum(disk) - told) <= 0.05 * told, f"{name}: the kernel counted {sum(disk) / 1e9:.2f} GB, the summary {told / 1e9:.2f} GB")
    bound = 1.10 * (non_model + 2 * 2 * 50257 * 768 + 64 * MIB)
    check(smallest is not None and smallest <= bound, f"smallest budget {smallest / MIB:.0f} MiB <= contract 3's bound {bound / MIB:.0f} MiB")

    budget = non_model + 14 * plain["parameters"] * 30 // 100
    for use_cgroup in (True, False):
        with hard_limit(budget + 384 * MIB, use_cgroup) as limit:
            if use_cgroup and limit.kind == "RLIMIT_DATA":
                print("no memory cgroup can be made here")
                continue
            name = f"hard limit {budget / MIB + 384:.0f} MiB ({limit.kind})"
            code, limited, _, error = train(options.program, [*shape, "--memory-budget", str(budget)], limit)
            check(code == 0 and limited["losses_hex"] == plain["losses_hex"], f"{name}: finishes {error.strip()[-200:] if code else ''}")
            code, _, _, error = train(options.program, [*shape, "--plain"], limit)
            check(code != 0, f"{name}: --plain dies (exit code {code} {error.strip()[-100:]})")

    medium = ["--model", "gpt2-medium", "--steps", "2", "--batch-size", "1", "--sequence-length", "256", "--checkpoint-activations"]
    code, ours, disk, error = train(options.program, [*medium, "--memory-budget", "1.5GiB"])
    check(code == 0, f"gpt2-medium 1 x 256 with checkpointing in 1.5 GiB {error.strip()[-300:] if code else ''}")
    if code == 0:
        record("gpt2-medium 1.5 GiB", ours, disk)
        check(ours["peak_total_bytes"] <= 1536 * MIB and ours["peak_rss_bytes"] <= (1536 + 256) * MIB,
              f"gpt2-medium: ledger peak {ours['peak_total_bytes'] / MIB:.0f}, RSS {ours['peak_rss_bytes'] / MIB:.0f} MiB")  # fmt: skip
        _, plain_medium, disk, _ = train(options.program, [*medium, "--plain"])
        record("gpt2-medium plain", plain_medium, disk)
        check(ours["losses_hex"] == plain_medium["losses_hex"] and ours["weights_hash"] == plain_medium["weights_hash"], "gpt2-medium: bits equal plain's")

    holds = all(line["holds"] for line in lines)
    commit = subprocess.run([f"{ROOT}/tools/commit"], capture_output=True, text=True).stdout.strip()
    report = {"benchmark": "presets", "command": " ".join(sys.argv), "commit": commit, "machine": machine(),
              "versions": plain["versions"], "holds": holds, "lines": lines, "runs": runs}  # fmt: skip
    Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
