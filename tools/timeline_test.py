#!/usr/bin/env python3
"""Tests of timeline.py on events written by hand."""

import json
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import timeline  # noqa: E402

S = 10**9


def event(time, what, payload="", count=0, **more):
    return {"t_ns": time, "event": what, "payload": payload, "level": 0, "bytes": count, **more}


def two_steps():
    return [event(0, "step", count=0), event(0, "budget_bytes", count=100), event(1, "chunk_bytes", count=60),
            event(5 * S, "fetch_start", "a", 8, kind="state", why="prefetch"),
            event(10 * S, "step", count=1),
            event(11 * S, "stall_start", "b", 8, why="transfer", thread=0), event(11 * S, "fetch_start", "b", 8, kind="param", why="demand"),
            event(12 * S, "fetch_done", "a", 8, kind="state"), event(13 * S, "write_start", "c", 8, kind="grad"),
            event(14 * S, "fetch_done", "b", 8, kind="param"), event(14 * S, "stall_end", "b", 8, thread=0),
            event(15 * S, "non_model_bytes", count=30), event(16 * S, "non_model_bytes", count=0),
            event(20 * S, "step", count=2)]  # fmt: skip


class TimelineTest(unittest.TestCase):
    def test_intervals_are_cut_to_the_step(self):
        transfers, stalls = timeline.intervals(two_steps(), 10 * S, 20 * S)
        self.assertEqual(transfers, {"read ahead": [(10 * S, 12 * S, "state")], "on demand": [(11 * S, 14 * S, "param")],
                                     "written": [(13 * S, 20 * S, "grad")]})  # fmt: skip
        self.assertEqual(stalls, {0: [(11 * S, 14 * S)]})

    def test_the_last_step_is_taken_unless_one_is_named(self):
        self.assertEqual(timeline.window_of(two_steps(), None), (2, 10 * S, 20 * S))
        self.assertEqual(timeline.window_of(two_steps(), 1), (1, 0, 10 * S))
        with self.assertRaisesRegex(timeline.BadInput, "no step 3: the file has 1 to 2"):
            timeline.window_of(two_steps(), 3)
        with self.assertRaisesRegex(timeline.BadInput, "no whole step"):
            timeline.window_of(two_steps()[:3], None)

    def test_what_overlaps_goes_into_other_lanes(self):
        lanes = timeline.lanes_of([(0, 4, "a"), (2, 5, "b"), (4, 6, "c")])
        self.assertEqual(lanes, [[(0, 4, "a"), (4, 6, "c")], [(2, 5, "b")]])

    def test_near_neighbours_of_a_colour_are_merged(self):
        pieces = [(0, 1, "a"), (1.2, 2, "a"), (2, 3, "b"), (9, 10, "b")]
        self.assertEqual(timeline.merged(pieces, 0.5), [(0, 2, "a"), (2, 3, "b"), (9, 10, "b")])

    def test_a_curve_keeps_peaks_and_what_was_before(self):
        self.assertEqual(timeline.curve(two_steps(), ("chunk_bytes", "non_model_bytes"), 10 * S, 20 * S, 5), [60, 60, 90, 90, 60])

    def test_the_picture_is_well_formed_and_says_what_was_moved(self):
        picture = timeline.draw(two_steps())
        ElementTree.fromstring(picture)
        self.assertIn("step 2: 10.000 s, of which 3.000 s waiting; read 0 MiB, written 0 MiB", picture)
        for colour in ("stall", "state", "param", "grad", "non-model"):
            self.assertGreaterEqual(picture.count(timeline.COLOURS[colour]), 2, colour)  # legend and drawing

    def test_many_transfers_make_a_small_file(self):
        many = [event(0, "step", count=0)]
        for i in range(20_000):
            many += [event(i * 1000, "fetch_start", "x", 8, kind="state", why="prefetch"), event(i * 1000 + 900, "fetch_done", "x", 8),
                     event(i * 1000, "chunk_bytes", count=i % 50)]  # fmt: skip
        self.assertLess(len(timeline.draw([*many, event(20_000_000, "step", count=1)])), 150_000)

    def test_as_a_program(self):
        with tempfile.TemporaryDirectory() as directory:
            path, output = Path(directory, "e.jsonl"), Path(directory, "o.svg")
            lines = "\n".join(json.dumps(e) for e in two_steps())
            command = [sys.executable, "-B", timeline.__file__, str(path), "--output", str(output)]
            path.write_text(lines + '\n{"t_ns":5,"ev')  # it was killed
            subprocess.run(command, check=True)
            ElementTree.parse(output)
            path.write_text("{}x\n" + lines + "\n")
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn("e.jsonl:1: not an event", done.stderr)


if __name__ == "__main__":
    unittest.main()
