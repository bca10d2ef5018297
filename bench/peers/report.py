"""What a run of bench/peers says: medians, ratios, the table. Values in, text out."""

import statistics

MIB = 1 << 20
# A round in which others used more than this many of the cores in one of its runs is not counted, if there are quieter ones.
BUSY = 0.25
# A run whose slowest counted step took more than this by its fastest is unsteady: a neighbour on the same host shows nowhere else.
SPREAD = 1.15
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
    "deepspeed_nvme_pipelined": "DeepSpeed, NVMe, pipelined",
    "deepspeed_nvme_lean": "DeepSpeed, NVMe, lean",
    "deepspeed_cpu": "DeepSpeed, CPU",
    "torch": "PyTorch, fused AdamW",
    "ours_fits": "PatrickStar, all fits",
    "ours_small": "PatrickStar, small budget",
}
# Ratios by name: of which program to which.
MEMORY_RATIOS = {
    "memory_to_deepspeed_nvme": ("ours_small", "deepspeed_nvme"),
    "memory_to_deepspeed_nvme_lean": ("ours_small", "deepspeed_nvme_lean"),
}
TIME_RATIOS = {
    "time_to_deepspeed_nvme": ("ours_small", "deepspeed_nvme"),
    "time_to_deepspeed_nvme_pipelined": ("ours_small", "deepspeed_nvme_pipelined"),
    "time_to_deepspeed_nvme_lean": ("ours_small", "deepspeed_nvme_lean"),
    "time_fits_to_torch": ("ours_fits", "torch"),
    "time_pipelined_to_deepspeed_nvme": ("deepspeed_nvme_pipelined", "deepspeed_nvme"),
}
LIMIT_PROGRAMS = ("ours_small", "ours_fits")


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


def steady(run):
    """One step alone does not show it."""
    counted = followed(run, "step_seconds")
    return len(counted) > 1 and max(counted) <= SPREAD * min(counted)


def is_quiet(r):
    """REQUIRES: the round has a run."""
    return max(run["others"] for run in r.values()) <= BUSY


def counted_rounds(rounds):
    """The rounds that count: the quiet ones, or all with a run if none is. A round: {kind: run}."""
    measured = [r for r in rounds if r]
    return [r for r in measured if is_quiet(r)] or measured


def with_both(rounds, of, to):
    return [r for r in rounds if of in r and to in r]


def steadiest(rounds, of, to):
    """The rounds in which both are steady, or all with both if there are none; and whether they are steady."""
    both = with_both(rounds, of, to)
    chosen = [r for r in both if steady(r[of]) and steady(r[to])]
    return chosen or both, bool(chosen)


def median(values):
    """None of nothing."""
    values = list(values)
    return statistics.median(values) if values else None


def traffic_bound(budget, fits):
    """Bytes that any policy must move in a step: 2 (M - c), c the room for chunks at the tightest moment (core/sim/bounds.h).
    REQUIRES: parameters and gradients fit in c.
    """
    return max(0, 2 * (fits["model_data_bytes"] - (budget - fits["peak_non_model_bytes"])))


def limit(r):
    """Of a round's small run, in seconds. A lower bound, so the fastest of what was seen: its compute is that of the fastest step
    of the run that fits, and the disk's time for the traffic bound that before or after it. Windows of the step (core/sim/bounds.h)
    can only raise it.
    """
    return max(min(followed(r["ours_fits"], "step_seconds")), min(r["ours_small"]["disk_seconds"]))


def steps(rounds, kind):
    """How a program's counted steps were."""
    runs = [r[kind] for r in rounds if kind in r]
    counted = [seconds for run in runs for seconds in followed(run, "step_seconds")]
    return {"median_seconds": median(map(step, runs)), "fastest_seconds": min(counted), "slowest_seconds": max(counted),
            "rounds": len(runs), "steady_rounds": sum(map(steady, runs))}  # fmt: skip


def results(rounds):
    """The figures of the counted rounds. Those that could not be had are None. "taken_over" says from which rounds a ratio is: how
    many, and for times whether both runs were steady in them. A peak does not hang on how long a step took.
    """
    counted = counted_rounds(rounds)
    found = {"rounds_run": len(rounds), "rounds": len(counted), "quiet": any(map(is_quiet, counted)), "memory_aim": MEMORY_AIM,
             "time_aim": TIME_AIM, "fits_aim": FITS_AIM, "taken_over": {}}  # fmt: skip
    for name, (of, to) in MEMORY_RATIOS.items():
        both = with_both(counted, of, to)
        found[name] = median(r[of]["peak_rss_bytes"] / r[to]["peak_rss_bytes"] for r in both)
        found["taken_over"][name] = {"rounds": len(both)}
    for name, (of, to) in TIME_RATIOS.items():
        chosen, are_steady = steadiest(counted, of, to)
        found[name] = median(step(r[of]) / step(r[to]) for r in chosen)
        found["taken_over"][name] = {"rounds": len(chosen), "steady": are_steady}
    pipelined = found["time_pipelined_to_deepspeed_nvme"]
    found["pipelined_is_faster"] = pipelined is not None and pipelined < 1
    chosen, are_steady = steadiest(counted, *LIMIT_PROGRAMS)
    found["limit_seconds"] = median(map(limit, chosen))
    found["time_to_limit"] = median(step(r["ours_small"]) / limit(r) for r in chosen)
    found["traffic_bound_bytes"] = median(traffic_bound(r["ours_small"]["budget_bytes"], r["ours_fits"]) for r in chosen)
    found["taken_over"]["time_to_limit"] = {"rounds": len(chosen), "steady": are_steady}
    found["steps"] = {kind: steps(counted, kind) for kind in TITLES if any(kind in r for r in counted)}
    return found


def heading(found):
    """Of which rounds the table is."""
    text = f"medians of {found['rounds']} of {found['rounds_run']} rounds"
    if found["rounds"] > 0 and not found["quiet"]:
        text += f", none of them quiet: others used more than {BUSY} cores"
    return text


def table(rounds):
    """One line a program: medians over the counted rounds, steady or not; the losses of the first."""
    rounds = counted_rounds(rounds)
    lines = [f"{'':26}  step s  fastest  slowest  steady  peak RSS GB  read GB  written GB  others' cores  losses"]
    for kind, title in TITLES.items():
        runs = [r[kind] for r in rounds if kind in r]
        if not runs:
            continue
        own = steps(rounds, kind)
        steady_of = f"{own['steady_rounds']}/{own['rounds']}"
        moved = [statistics.median(traffic(run)[way] for run in runs) / 1e9 for way in (0, 1)]
        losses = " ".join(f"{loss:.4f}" for loss in runs[0]["losses"])
        lines.append(f"{title:26}  {own['median_seconds']:6.2f}  {own['fastest_seconds']:7.2f}  {own['slowest_seconds']:7.2f}  {steady_of:>6}"
                     f"  {max(run['peak_rss_bytes'] for run in runs) / 1e9:11.2f}  {moved[0]:7.2f}  {moved[1]:10.2f}"
                     f"  {max(run['others'] for run in runs):13.2f}  {losses}")  # fmt: skip
    return "\n".join(lines)


def doubts(found, name):
    """What a ratio's figure lacks: nothing where it is of two quiet rounds or more, for times steady ones."""
    over, text, reasons = found["taken_over"][name], "", []
    if not found["quiet"]:
        reasons.append("no round was quiet")
    if not over.get("steady", True):
        programs = [(TITLES[kind].replace(",", ""), found["steps"][kind]) for kind in TIME_RATIOS.get(name, LIMIT_PROGRAMS)]
        unsteady = [f"of {title} {own['fastest_seconds']:.2f} to {own['slowest_seconds']:.2f} s" for title, own in programs
                    if own["steady_rounds"] < own["rounds"]]  # fmt: skip
        reasons.append("no round was steady: steps " + ", ".join(unsteady))
    elif over["rounds"] == 1:
        text = ", one round"
    return text + (", but " + " and ".join(reasons) if reasons else "")


def verdicts(found):
    """Lines that hold each ratio against its aim. The time is held against the faster of DeepSpeed's two NVMe modes that differ in
    pipelining only.
    """
    time = ("time_to_deepspeed_nvme", "time_aim", "small budget: step / DeepSpeed NVMe's")
    if found["pipelined_is_faster"]:
        time = ("time_to_deepspeed_nvme_pipelined", "time_aim", "small budget: step / pipelined DeepSpeed NVMe's, the faster one")
    lines = []
    for name, aim, text in (("memory_to_deepspeed_nvme", "memory_aim", "small budget: memory / DeepSpeed NVMe's"), time,
                            ("time_fits_to_torch", "fits_aim", "all fits: step / plain PyTorch's")):  # fmt: skip
        if found[name] is None:
            lines.append(f"{text}: not measured")
        else:
            verdict = ("holds" if found[name] <= found[aim] else "missed") + doubts(found, name)
            lines.append(f"{text}: {found[name]:.3f} (aim: at most {found[aim]}: {verdict})")
    for name, text in (("time_pipelined_to_deepspeed_nvme", "pipelined DeepSpeed NVMe: step / DeepSpeed NVMe's without"),
                       ("memory_to_deepspeed_nvme_lean", "small budget: memory / lean DeepSpeed NVMe's"),
                       ("time_to_deepspeed_nvme_lean", "small budget: step / lean DeepSpeed NVMe's")):  # fmt: skip
        if found[name] is not None:
            lines.append(f"{text}: {found[name]:.3f}{doubts(found, name)}")
    if found["time_to_limit"] is not None:
        lines.append(f"small budget: step / limit: {found['time_to_limit']:.3f} (limit {found['limit_seconds']:.2f} s: the larger of "
                     f"compute and {found['traffic_bound_bytes'] / 1e9:.2f} GB at the disk's speed)"
                     f"{doubts(found, 'time_to_limit')}")  # fmt: skip
    return lines
