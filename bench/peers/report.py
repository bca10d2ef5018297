"""What a run of bench/peers says: medians, ratios, the table. Values in, text out."""

import statistics

MIB = 1 << 20
# A round in which others used more than this many of the cores in one of its runs is not counted, if there are quieter ones.
BUSY = 0.25
# What the process may have on top of the budget: program text, libraries, their own buffers (docs/design.md, contract 3).
PROCESS_EXTRA = 256 * MIB
MEMORY_AIM = 0.4  # of DeepSpeed NVMe's
TIME_AIM = 0.5  # of DeepSpeed NVMe's
FITS_AIM = 0.85  # of plain PyTorch's
WARM_UP = {"ours_small": 3}  # steps: two are watched, the third settles
OTHERS_WARM_UP = 2  # optimizer states come into being in the first
# In the order of a round: ours_small needs figures of deepspeed_nvme and ours_fits.
TITLES = {
    "deepspeed_nvme": "DeepSpeed, NVMe",
    "deepspeed_nvme_lean": "DeepSpeed, NVMe, lean",
    "deepspeed_cpu": "DeepSpeed, CPU",
    "torch": "PyTorch, fused AdamW",
    "ours_fits": "PatrickStar, all fits",
    "ours_small": "PatrickStar, small budget",
}


def small_budget(deepspeed_peak_rss):
    """The budget with which a process stays within MEMORY_AIM of DeepSpeed's, in whole MiB."""
    return (int(MEMORY_AIM * deepspeed_peak_rss) - PROCESS_EXTRA) // MIB * MIB


def followed(run, key):
    """The values of the steps after the warm-up."""
    return run[key][WARM_UP.get(run["kind"], OTHERS_WARM_UP) :]


def step(run):
    return statistics.median(followed(run, "step_seconds"))


def traffic(run):
    """Bytes (read, written) in a step."""
    return tuple(statistics.median(followed(run, f"disk_{way}_bytes_per_step") or [0]) for way in ("read", "written"))


def counted_rounds(rounds):
    """The rounds that count: the quiet ones, or all if none is. A round: {kind: run}."""
    quiet = [r for r in rounds if max((run["others"] for run in r.values()), default=0) <= BUSY]
    return quiet or rounds


def ratio(rounds, of, to, value):
    """The median over rounds of value(of) / value(to), each pair from one round; None where a round has not both."""
    pairs = [value(r[of]) / value(r[to]) for r in rounds if of in r and to in r]
    return statistics.median(pairs) if pairs else None


def traffic_bound(budget, fits):
    """Bytes that any policy must move in a step: 2 (M - c), c the room for chunks at the tightest moment (core/sim/bounds.h).
    REQUIRES: parameters and gradients fit in c.
    """
    return max(0, 2 * (fits["model_data_bytes"] - (budget - fits["peak_non_model_bytes"])))


def with_limit(rounds):
    return [r for r in rounds if "ours_small" in r and "ours_fits" in r]


def limit(r):
    """Of a round's small run, in seconds. A lower bound, so the fastest of what was seen: its compute is that of the fastest step
    of the run that fits, and the disk's time for the traffic bound that before or after it. Windows of the step (core/sim/bounds.h)
    can only raise it.
    """
    return max(min(followed(r["ours_fits"], "step_seconds")), min(r["ours_small"]["disk_seconds"]))


def results(rounds):
    """The figures of the counted rounds. Those that could not be had are None."""
    rounds = counted_rounds(rounds)
    bounds = [traffic_bound(r["ours_small"]["budget_bytes"], r["ours_fits"]) for r in with_limit(rounds)]
    limits = [limit(r) for r in with_limit(rounds)]
    to_limit = [step(r["ours_small"]) / limit(r) for r in with_limit(rounds)]
    return {
        "rounds": len(rounds),
        "memory_to_deepspeed_nvme": ratio(rounds, "ours_small", "deepspeed_nvme", lambda run: run["peak_rss_bytes"]),
        "memory_aim": MEMORY_AIM,
        "time_to_deepspeed_nvme": ratio(rounds, "ours_small", "deepspeed_nvme", step),
        "time_aim": TIME_AIM,
        "memory_to_deepspeed_nvme_lean": ratio(rounds, "ours_small", "deepspeed_nvme_lean", lambda run: run["peak_rss_bytes"]),
        "time_to_deepspeed_nvme_lean": ratio(rounds, "ours_small", "deepspeed_nvme_lean", step),
        "time_fits_to_torch": ratio(rounds, "ours_fits", "torch", step),
        "fits_aim": FITS_AIM,
        "limit_seconds": statistics.median(limits) if limits else None,
        "time_to_limit": statistics.median(to_limit) if to_limit else None,
        "traffic_bound_bytes": statistics.median(bounds) if bounds else None,
    }


def table(rounds):
    """One line a program: medians over the counted rounds, the losses of the first."""
    rounds = counted_rounds(rounds)
    lines = [f"{'':26}  step s  peak RSS GB  read GB  written GB  others' cores  losses"]
    for kind, title in TITLES.items():
        runs = [r[kind] for r in rounds if kind in r]
        if not runs:
            continue
        moved = [statistics.median(traffic(run)[way] for run in runs) / 1e9 for way in (0, 1)]
        losses = " ".join(f"{loss:.4f}" for loss in runs[0]["losses"])
        lines.append(f"{title:26}  {statistics.median(map(step, runs)):6.2f}  {max(run['peak_rss_bytes'] for run in runs) / 1e9:11.2f}"
                     f"  {moved[0]:7.2f}  {moved[1]:10.2f}  {max(run['others'] for run in runs):13.2f}  {losses}")  # fmt: skip
    return "\n".join(lines)


def verdicts(found):
    """Lines that hold each ratio against its aim."""
    lines = []
    for key, aim, text in (("memory_to_deepspeed_nvme", "memory_aim", "small budget: memory / DeepSpeed NVMe's"),
                           ("time_to_deepspeed_nvme", "time_aim", "small budget: step / DeepSpeed NVMe's"),
                           ("time_fits_to_torch", "fits_aim", "all fits: step / plain PyTorch's")):  # fmt: skip
        if found[key] is None:
            lines.append(f"{text}: not measured")
        else:
            lines.append(f"{text}: {found[key]:.3f} (aim: at most {found[aim]}: {'holds' if found[key] <= found[aim] else 'missed'})")
    if found["time_to_deepspeed_nvme_lean"] is not None:
        lines.append(f"small budget: memory / lean DeepSpeed NVMe's: {found['memory_to_deepspeed_nvme_lean']:.3f}, step / its step: "
                     f"{found['time_to_deepspeed_nvme_lean']:.3f}")  # fmt: skip
    if found["time_to_limit"] is not None:
        lines.append(f"small budget: step / limit: {found['time_to_limit']:.3f} (limit {found['limit_seconds']:.2f} s: the larger of "
                     f"compute and {found['traffic_bound_bytes'] / 1e9:.2f} GB at the disk's speed)")  # fmt: skip
    return lines
