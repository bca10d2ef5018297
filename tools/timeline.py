#!/usr/bin/env python3
"""Draws one training step from recorded events (train --events): compute and stalls, transfers, and memory against the budget.

    tools/timeline.py out.jsonl --step 6 --output step.svg

Lanes: for each thread that waited, compute and stalls; reads ahead of need, reads on demand and write-backs, coloured by kind (as
many lanes as overlap; a transfer lasts from when it was asked for until it was done); and memory: non-model data, chunks above it,
what was brought ahead at their top, and the budget. Without --step the last whole step. Standard library only.
"""

import argparse
import html
import json
import sys
from pathlib import Path

WIDTH, LEFT, RIGHT = 1240, 118, 12
LANE, GAP, MEMORY = 14, 3, 190
COLOURS = {"compute": "#8cbf88", "stall": "#d62f2f", "param": "#4472a8", "grad": "#8a5ca8", "state": "#e2952f",
           "non-model": "#b9b9b9", "chunks": "#bcd3ea", "ahead": "#5f96c9"}  # fmt: skip
GROUPS = ("read ahead", "on demand", "written")
START = {"fetch_start": "read", "write_start": "written"}
END = ("fetch_done", "write_done", "failed")


class BadInput(Exception):
    """A line for the user."""


def read_events(path):
    """The events of the file. The last line of a process that was killed may be cut short."""
    events = []
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise BadInput(f"{path}:{number}: not an event: {error}") from error
    return sorted(events, key=lambda event: event["t_ns"])  # step marks are written beside the manager's lock


def window_of(events, step):
    """(number, begin, end) of the step: from one mark to the next."""
    marks = [(event["bytes"], event["t_ns"]) for event in events if event["event"] == "step"]
    steps = {number: (before, end) for (_, before), (number, end) in zip(marks, marks[1:])}
    if not steps:
        raise BadInput("there is no whole step in the file")
    number = max(steps) if step is None else step
    if number not in steps:
        raise BadInput(f"there is no step {number}: the file has {min(steps)} to {max(steps)}")
    return (number, *steps[number])


def intervals(events, begin, end):
    """Transfers as {group: [(from, to, kind)]} and stalls as {thread: [(from, to)]}, cut to the step."""
    transfers, stalls, open_transfers, open_stalls = {group: [] for group in GROUPS}, {}, {}, {}

    def add(target, start, stop, *more):
        if stop > begin and start < end:
            target.append((max(start, begin), min(stop, end), *more))

    def end_transfer(payload, stop):
        if payload in open_transfers:
            start, group, kind = open_transfers.pop(payload)
            add(transfers[group], start, stop, kind)

    for event in events:
        what, payload, time = event["event"], event["payload"], event["t_ns"]
        if what in START:
            group = "written" if what == "write_start" else "on demand" if event.get("why") == "demand" else "read ahead"
            open_transfers[payload] = (time, group, event.get("kind", "state"))
        elif what in END:
            end_transfer(payload, time)
        elif what == "stall_start":
            open_stalls[event["thread"]] = time
        elif what == "stall_end" and event["thread"] in open_stalls:
            add(stalls.setdefault(event["thread"], []), open_stalls.pop(event["thread"]), time)
    for payload in list(open_transfers):
        end_transfer(payload, end)
    for thread, start in open_stalls.items():
        add(stalls.setdefault(thread, []), start, end)
    return transfers, stalls


def moved(events, begin, end, what):
    return sum(event["bytes"] for event in events if event["event"] == what and begin < event["t_ns"] <= end)


def lanes_of(transfers):
    """Puts each into the first lane that is free, so that none overlap."""
    lanes = []
    for transfer in sorted(transfers):
        lane = next((lane for lane in lanes if lane[-1][1] <= transfer[0]), None)
        if lane is None:
            lanes.append(lane := [])
        lane.append(transfer)
    return lanes


def merged(pieces, nearest):
    """Neighbours of one colour with less than `nearest` between them become one: [(from, to, kind)]."""
    result = []
    for start, stop, kind in pieces:
        if result and result[-1][2] == kind and start - result[-1][1] < nearest:
            result[-1] = (result[-1][0], max(stop, result[-1][1]), kind)
        else:
            result.append((start, stop, kind))
    return result


def curve(events, names, begin, end, points):
    """The greatest sum of the readings in each of `points` parts of the step; a reading holds until the next."""
    now = dict.fromkeys(names, 0)
    most = [None] * points
    part = 0

    def note(until):
        nonlocal part
        value = sum(now.values())
        for i in range(part, min(until, points - 1) + 1):
            most[i] = value if most[i] is None else max(most[i], value)
        part = max(part, min(until, points - 1))

    for event in events:
        if event["event"] not in now or event["t_ns"] >= end:
            continue
        if event["t_ns"] >= begin:
            note((event["t_ns"] - begin) * points // (end - begin))
        now[event["event"]] = event["bytes"]
        if event["t_ns"] >= begin:
            note((event["t_ns"] - begin) * points // (end - begin))
    note(points - 1)
    return most


class Picture:
    def __init__(self, begin, end):
        self.begin, self.scale, self.y, self.parts = begin, (WIDTH - LEFT - RIGHT) / (end - begin), 44, []

    def x(self, time):
        return LEFT + (time - self.begin) * self.scale

    def text(self, x, y, text, anchor="start", size=11):
        self.parts.append(f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}">{html.escape(text)}</text>')

    def lane(self, name, pieces, height=LANE):
        """One path for all rectangles of a colour."""
        if name:
            self.text(LEFT - 8, self.y + height - 3, name, "end")
        paths = {}
        for start, stop, kind in merged(pieces, 0.5 / self.scale):
            x, width = self.x(start), max(0.4, (stop - start) * self.scale)
            paths.setdefault(kind, []).append(f"M{x:.1f} {self.y}h{width:.1f}v{height}h-{width:.1f}z")
        for kind, path in paths.items():
            self.parts.append(f'<path fill="{COLOURS[kind]}" d="{"".join(path)}"/>')
        self.y += height + GAP

    def area(self, values, most, colour, top):
        height = lambda value: top + MEMORY - value / most * MEMORY  # noqa: E731
        path, last = f"M{LEFT} {top + MEMORY}", None
        for i, value in enumerate(values):
            if value != last:
                path += f"V{height(value):.1f}" if i == 0 else f"H{LEFT + i * (WIDTH - LEFT - RIGHT) / len(values):.1f}V{height(value):.1f}"
            last = value
        self.parts.append(f'<path fill="{COLOURS[colour]}" d="{path}H{WIDTH - RIGHT}V{top + MEMORY}z"/>')


def readable(count):
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def tick_step(seconds):
    """1, 2 or 5 times a power of ten, so that there are 5 to 12 ticks."""
    unit = 10.0 ** -6
    while True:
        for factor in (1, 2, 5):
            if seconds / (unit * factor) <= 12:
                return unit * factor
        unit *= 10


def draw(events, step=None):
    number, begin, end = window_of(events, step)
    transfers, stalls = intervals(events, begin, end)
    picture = Picture(begin, end)
    seconds = (end - begin) * 1e-9
    waited = sum(stop - start for pieces in stalls.values() for start, stop in pieces) * 1e-9
    picture.text(LEFT, 16, f"step {number}: {seconds:.3f} s, of which {waited:.3f} s waiting; read {readable(moved(events, begin, end, 'fetch_done'))}, "
                           f"written {readable(moved(events, begin, end, 'write_done'))}", size=13)  # fmt: skip
    x = LEFT
    for name, colour in COLOURS.items():
        label = {"param": "parameters", "grad": "gradients", "state": "optimizer state", "non-model": "non-model data", "ahead": "brought ahead"}.get(name, name)
        picture.parts.append(f'<rect x="{x}" y="24" width="10" height="10" fill="{colour}"/>')
        picture.text(x + 14, 33, label)
        x += 34 + 6 * len(label)
    top = picture.y
    for thread in sorted(stalls) or [0]:
        pieces, at = [], begin
        for start, stop in sorted(stalls.get(thread, [])):
            pieces += [(at, start, "compute")] * (start > at) + [(start, stop, "stall")]
            at = stop
        picture.lane("compute" if len(stalls) < 2 else f"thread {thread}", pieces + [(at, end, "compute")] * (end > at), 22)
    for group in GROUPS:
        picture.y += 4
        for i, lane in enumerate(lanes_of(transfers[group]) or [[]]):
            picture.lane(group if i == 0 else "", lane)
    picture.y += 8
    top_of_memory = picture.y
    points = WIDTH - LEFT - RIGHT
    both = curve(events, ("chunk_bytes", "non_model_bytes"), begin, end, points)
    other = curve(events, ("non_model_bytes",), begin, end, points)
    ahead = curve(events, ("ahead_bytes",), begin, end, points)
    budget = max((event["bytes"] for event in events if event["event"] == "budget_bytes"), default=0)
    most = 1.05 * max(budget, max(both), 1)
    picture.area(both, most, "ahead", top_of_memory)
    picture.area([max(n, b - a) for n, b, a in zip(other, both, ahead)], most, "chunks", top_of_memory)
    picture.area(other, most, "non-model", top_of_memory)
    picture.text(LEFT - 8, top_of_memory + MEMORY / 2, "memory", "end")
    if budget > 0:
        y = top_of_memory + MEMORY - budget / most * MEMORY
        picture.parts.append(f'<path stroke="#222" stroke-dasharray="5 3" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        picture.text(LEFT - 8, y + 4, f"budget {readable(budget)}", "end")
    bottom = top_of_memory + MEMORY
    tick = tick_step(seconds)
    grid = ""
    for i in range(int(seconds / tick) + 1):
        x = picture.x(begin + i * tick * 1e9)
        grid += f"M{x:.1f} {top}V{bottom + 4}"
        picture.text(x, bottom + 16, f"{i * tick:g} s", "middle")
    picture.parts.append(f'<path stroke="#000" stroke-opacity="0.12" d="{grid}"/>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 24}" font-family="sans-serif" fill="#222">'
            f'<rect width="100%" height="100%" fill="#fff"/>{"".join(picture.parts)}</svg>\n')  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("events", help="a file of train --events")
    parser.add_argument("--step", type=int, help="its number; the last one if not given")
    parser.add_argument("--output", required=True, help="where the SVG goes")
    options = parser.parse_args()
    try:
        Path(options.output).write_text(draw(read_events(options.events), options.step), encoding="utf-8")
    except (BadInput, OSError) as error:
        sys.exit(f"timeline: error: {error}")


if __name__ == "__main__":
    main()
