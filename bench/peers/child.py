"""What the peer programs share: options, and the report that run.py reads."""

import argparse
import json
import resource
import time

import torch

from batches import Batches
from model import SHAPES


def options(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2-medium", choices=SHAPES)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--summary", required=True)
    return parser


def disk_bytes():
    with open("/proc/self/io") as file:
        fields = dict(line.split(": ") for line in file.read().splitlines())
    return int(fields["read_bytes"]), int(fields["write_bytes"])


def train(o, step, versions, **extra):
    """Calls `step(tokens, targets)`, which returns the loss, and writes the summary with the keys of patrickstar's."""
    with open(o.data, "rb") as file:
        batches = Batches(file.read(), o.batch_size, o.sequence_length, o.seed)
    summary = {"losses": [], "step_seconds": [], "disk_read_bytes_per_step": [], "disk_written_bytes_per_step": []}
    for i in range(o.steps):
        start, before = time.monotonic(), disk_bytes()
        loss = step(*map(torch.tensor, batches.next()))
        seconds, after = time.monotonic() - start, disk_bytes()
        summary["losses"].append(loss)
        summary["step_seconds"].append(seconds)
        summary["disk_read_bytes_per_step"].append(after[0] - before[0])
        summary["disk_written_bytes_per_step"].append(after[1] - before[1])
        print(f"step {i + 1}: loss {loss:.4f}, {seconds:.2f} s", flush=True)
    summary["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    summary["threads"] = torch.get_num_threads()
    summary["versions"] = {"torch": torch.__version__, **versions}
    summary["options"] = vars(o) | extra
    with open(o.summary, "w") as file:
        json.dump(summary, file)
