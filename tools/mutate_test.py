#!/usr/bin/env python3
"""Runs scripts/mutate on a toy project of one shell script and one test, so that no compiler is needed."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

MUTATE = Path(__file__).resolve().parent.parent / "scripts/mutate"

CMAKE = """cmake_minimum_required(VERSION 3.25)
project(toy NONE)
enable_testing()
add_custom_target(toy_test COMMAND sh -n ${CMAKE_SOURCE_DIR}/toy.sh)
add_test(NAME Toy.Answers COMMAND sh ${CMAKE_SOURCE_DIR}/toy.sh)
"""
TOY = """limit=42
unused=1
test $((limit - 2)) -eq 40
"""


class MutateTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = Path(directory.name)
        (self.folder / "tree").mkdir()
        self.write("CMakeLists.txt", CMAKE)
        self.write("toy.sh", TOY)

    def write(self, name, text):
        (self.folder / "tree" / name).write_text(text)

    def mutate(self, *mutants, options=()):
        base = {"file": "toy.sh", "build_target": "toy_test", "test_regex": "^Toy\\."}
        entries = [{"name": f"defect {i}", **base, **mutant} for i, mutant in enumerate(mutants)]
        (self.folder / "mutants.json").write_text(json.dumps(entries))
        places = ["--source", self.folder / "tree", "--mutants", self.folder / "mutants.json"]
        command = [sys.executable, "-B", MUTATE, *places, *options]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((self.folder / "tree/toy.sh").read_text().count("limit=42"), TOY.count("limit=42"))
        return done

    def test_a_defect_that_a_test_finds(self):
        done = self.mutate({"find": "limit=42", "replace": "limit=43"})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("defect 0: killed: Toy.Answers", done.stdout)
        self.assertIn("1 killed, 0 not", done.stdout)

    def test_a_survivor_fails_and_the_next_starts_from_the_unchanged_text(self):
        done = self.mutate({"find": "limit - 2", "replace": "limit - 3"}, {"find": "unused=1", "replace": "unused=2"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("defect 0: killed", done.stdout)
        self.assertIn("defect 1: SURVIVED", done.stdout)

    def test_an_endless_test_counts_as_killed_and_is_named_so(self):
        done = self.mutate({"find": "unused=1", "replace": "sleep 1000"}, options=("--timeout", "2"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("defect 0: killed (time-out)", done.stdout)

    def test_text_that_is_not_there_exactly_once(self):
        for find, count in (("limit", 2), ("nothing", 0)):
            with self.subTest(find=find):
                done = self.mutate({"find": find, "replace": "x"})
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"ERROR: its text stands {count} times in toy.sh, not once", done.stdout)

    def test_a_defect_that_does_not_build(self):
        done = self.mutate({"find": "unused=1", "replace": "if"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("ERROR: it does not build", done.stdout)

    def test_a_red_tree_proves_nothing(self):
        self.write("toy.sh", TOY.replace("-eq 40", "-eq 41"))
        done = self.mutate({"find": "limit=42", "replace": "limit=43"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("the unchanged tree fails already: Toy.Answers", done.stderr)

    def test_a_test_that_does_not_exist_proves_nothing(self):
        done = self.mutate({"find": "limit=42", "replace": "limit=43", "test_regex": "Nobody"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("no test matches -R Nobody", done.stderr)

    def test_a_forgotten_key(self):
        done = self.mutate({"find": "limit=42"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("entry 0 must have exactly the keys", done.stderr)


if __name__ == "__main__":
    unittest.main()
