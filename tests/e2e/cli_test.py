"""The program as a user meets it: patrickstar train as a child process, nothing of ours linked in.

    python3 -B cli_test.py build/release/bin/patrickstar [unittest's options]

Covers bad input, the same bits as --plain, the budget, a hard limit of the OS, the disk, signals, determinism and data formats.
Standard library only; one to two minutes. PATRICKSTAR_CLI_TEST_DIR: where the temporary files go (default /var/tmp: a real disk).
"""

import array
import contextlib
import json
import mmap
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from hard_limit import Rlimit, hard_limit

PROGRAM = None  # set by main
ROOT = None  # a temporary directory of this run
MIB = 1 << 20
TIMEOUT_S = 240
PREFIX = "patrickstar: error: "

# 5.3M parameters, 70 MiB of model data in bf16. One thread: other work on the machine slows it least.
SMALL = ["--model", "tiny-gpt2", "--hidden-size", "256", "--layers", "6", "--vocab-size", "2048", "--threads", "1",
         "--steps", "2", "--batch-size", "1", "--sequence-length", "64"]
SMALL_LLAMA = ["--model", "tiny-llama", "--hidden-size", "256", "--layers", "4", "--vocab-size", "2048", "--threads", "1",
               "--steps", "2", "--batch-size", "1", "--sequence-length", "64"]
# As small as it gets, for what does not depend on size.
TINY = ["--model", "tiny-gpt2", "--threads", "1", "--steps", "2", "--batch-size", "1", "--sequence-length", "32"]
TINY_VOCABULARY = 211


class Run:
    """What a child left behind."""

    def __init__(self, arguments, code, stdout, stderr, summary, usage):
        self.arguments, self.code, self.stdout, self.stderr, self.usage = arguments, code, stdout, stderr, usage
        self.summary = summary

    def __str__(self):
        return f"exit code {self.code} of: {' '.join(self.arguments)}\nstdout: {self.stdout}\nstderr: {self.stderr[-2000:]}"

    def errors(self):
        return [line for line in self.stderr.splitlines() if line.startswith(PREFIX)]


FLAGS = ("--plain", "--checkpoint-activations", "--repeat-batch", "--report", "--forward-only", "--quick")


def last_wins(arguments):
    """The program takes an option once; here a job's own options replace those of the shape it starts from."""
    kept, rest = {}, list(map(str, arguments))
    while rest:
        word = rest.pop(0)
        name = word.split("=")[0]
        key = f"{name} {len(kept)}" if name == "--tier" else name  # given once a tier
        kept.pop(key, None)
        takes_value = word.startswith("--") and word == name and word not in FLAGS and rest and not rest[0].startswith("--")
        kept[key] = [word, rest.pop(0)] if takes_value else [word]
    return [word for words in kept.values() for word in words]


def run(*arguments, command=None, **popen):
    """Runs the program to its end; `command` may wrap it."""
    arguments = (command or []) + [PROGRAM, *last_wins(arguments)]
    with tempfile.TemporaryFile(dir=ROOT) as out, tempfile.TemporaryFile(dir=ROOT) as err:
        child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **popen)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid != 0:
                break
            if time.monotonic() > deadline:
                child.kill()
                os.wait4(child.pid, 0)
                child.returncode = -signal.SIGKILL
                raise AssertionError(f"still running after {TIMEOUT_S} s: {' '.join(arguments)}")
            time.sleep(0.01)
        child.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    summary = None
    if "--summary" in arguments:
        path = pathlib.Path(arguments[arguments.index("--summary") + 1])
        if path.is_file():
            summary = json.loads(path.read_text())
    return Run(arguments, child.returncode, *texts, summary, usage)


def fresh(suffix=""):
    fd, path = tempfile.mkstemp(suffix=suffix, dir=ROOT)
    os.close(fd)
    os.unlink(path)
    return path


def train(*arguments, data=None, **popen):
    """`patrickstar train` on the text with a summary; fails unless it ends well."""
    spill = [] if "--plain" in arguments or "--spill-dir" in arguments else ["--spill-dir", ROOT]
    done = run("train", "--data", data or text_file(), "--summary", fresh(".json"), *spill, *arguments, **popen)
    if done.code != 0 or done.summary is None:
        raise AssertionError(str(done))
    return done


def write(name, content):
    path = os.path.join(ROOT, name)
    with open(path, "wb") as file:
        file.write(content)
    return path


_made = {}


def once(key, make):
    if key not in _made:
        _made[key] = make()
    return _made[key]


def text_file():
    words = [b"the ", b"whale ", b"sea ", b"of ", b"and ", b"ship ", b"a ", b"white ", b"\n"]
    source = random.Random(1)
    return once("text", lambda: write("text.txt", b"".join(source.choice(words) for _ in range(4000))))


def bin_file(name, tokens, header=None):
    body = array.array("H", tokens)
    if sys.byteorder == "big":
        body.byteswap()
    return write(name, (header or b"") + body.tobytes())


def llmc_header(count, version=1):
    ints = array.array("i", [20240520, version, count] + [0] * 253)
    return ints.tobytes()


def tokens(count=2000, vocabulary=TINY_VOCABULARY):
    source = random.Random(2)
    return [source.randrange(vocabulary) for _ in range(count)]


def plain(*options):
    """The baseline of a job, with the counting allocator: its bits and its peaks. Made once a job."""
    return once(("plain", options), lambda: train(*options, "--plain", "--plain-allocator", "counting")).summary


def full_budget(baseline, roomy_model_data):
    """What the issues call 100 %: the plain run's activations and all model data."""
    return baseline["steps_peak_non_model_bytes"] + roomy_model_data


def bits(summary):
    return summary["losses_hex"], summary["weights_hash"]


class Case(unittest.TestCase):
    def assert_refused(self, done, code, *fragments, alone=True):
        """One line that names the matter, and the exit code. `alone`: nothing else on stderr."""
        self.assertEqual(done.code, code, str(done))
        self.assertEqual(len(done.errors()), 1, str(done))
        if alone:
            self.assertEqual(len(done.stderr.splitlines()), 1, str(done))
        self.assertEqual(done.stderr.splitlines()[-1], done.errors()[0], str(done))
        for fragment in fragments:
            self.assertIn(fragment.lower(), done.errors()[0].lower(), str(done))
        return done.errors()[0]


# --- bad input ---------------------------------------------------------------------------------------------------------------


class BadUsage(Case):
    """Exit code 2: seen from the command line alone."""

    def refused(self, *arguments, names=()):
        return self.assert_refused(run(*arguments), 2, *names)

    def train_refused(self, *arguments, names=()):
        return self.refused("train", "--data", text_file(), *TINY, *arguments, names=names)

    def test_no_subcommand(self):
        self.refused(names=["subcommand"])

    def test_unknown_subcommand(self):
        self.refused("trian", "--data", text_file())

    def test_unknown_option(self):
        self.train_refused("--no-such-option", "3", names=["--no-such-option"])

    def test_missing_data_option(self):
        self.refused("train", names=["--data"])

    def test_unknown_model(self):
        self.train_refused("--model", "gpt5", names=["gpt5", "gpt2-medium"])

    def test_impossible_shapes(self):
        for shape in (["--heads", "7"], ["--heads", "4", "--kv-heads", "3"], ["--sequence-length", "65"], ["--freeze-layers", "4"],
                      ["--layers", str(1 << 40)], ["--head", "none"],
                      ["--batch-size", str(1 << 40), "--accumulate", str(1 << 40)]):
            with self.subTest(shape=shape):
                self.train_refused(*shape)

    def test_plain_with_what_it_lacks(self):
        self.train_refused("--plain", "--memory-budget", "1GiB", names=["--plain", "--memory-budget"])
        self.train_refused("--plain", "--events", fresh(), names=["--plain", "--events"])
        self.train_refused("--plain", "--timeline", fresh(), names=["--plain", "--timeline"])
        self.train_refused("--plain", "--report", names=["--plain", "--report"])
        self.train_refused("--plain", "--layout", fresh(), names=["--plain", "--layout"])
        self.train_refused("--layout", fresh(), "--chunk-elems", "1024", names=["--layout", "--chunk-elems"])
        self.train_refused("--plain-allocator", "counting", names=["--plain"])
        for needs_gradients in (("--grad-clip", "1"), ("--accumulate", "2")):
            self.train_refused("--update-schedule", "overlapped", *needs_gradients, names=["overlapped", needs_gradients[0]])

    def test_two_outputs_in_one_file(self):
        directory, path = os.path.join(ROOT, "outputs"), fresh()
        os.mkdir(directory)
        os.symlink(directory, os.path.join(ROOT, "link"))
        outputs = ("--summary", "--trace", "--transfers", "--events", "--timeline")
        for first, second in zip(outputs, outputs[1:] + outputs[:1]):
            with self.subTest(first=first, second=second):
                self.train_refused(first, path, second, path, names=[first, second, path])
        for one, other in ((path, os.path.join(ROOT, "outputs", "..", os.path.basename(path))),
                           (os.path.join(directory, "x"), os.path.join(ROOT, "link", "x")), ("x", os.path.join(os.getcwd(), "x"))):
            with self.subTest(one=one, other=other):
                self.train_refused("--events", one, "--timeline", other, names=["--events", "--timeline"])
        self.assertFalse(os.path.exists(path))
        self.assertEqual(os.listdir(directory), [])

    def test_bench(self):
        self.refused("bench", "--quick", "--shares", "100", names=["--shares"])
        self.refused("bench", "--quick", "--ratios", "0", names=["--ratios"])
        self.refused("bench", "--batch-size", "2", names=["--batch-size", "--sequence-length"])
        self.refused("bench", "--model", "gpt5", names=["gpt5", "gpt2-medium"])
        self.train_refused("--plain", "--transfers", fresh(), names=["--plain", "--transfers"])

    def test_bad_sizes(self):
        for size in ("12parsecs", "-1GiB", "0", "nan", "99999999999TiB"):
            with self.subTest(size=size):
                self.train_refused(f"--memory-budget={size}", names=["--memory-budget"])

    def test_bad_values(self):
        for option, value in (("--dtype", "fp16"), ("--io", "mmap"), ("--direct", "yes"), ("--lr-schedule", "step"), ("--steps", "0"),
                              ("--steps", "many"), ("--lr", "-1"), ("--lr", "1e30"), ("--lr", "nan"), ("--grad-clip", "nan"),
                              ("--tile-elems", "100")):
            with self.subTest(option=option, value=value):
                self.train_refused(f"{option}={value}", names=[option])


class BadData(Case):
    """Exit code 1: seen when the file is opened."""

    def refused(self, path, *names):
        return self.assert_refused(run("train", *TINY, "--data", path), 1, *names)

    def test_missing(self):
        path = fresh(".txt")
        self.refused(path, path, "No such file")

    def test_directory(self):
        self.refused(ROOT, ROOT)

    def test_empty(self):
        for name in ("empty.txt", "empty.bin"):
            path = write(name, b"")
            self.refused(path, path, "empty")

    def test_shorter_than_a_sequence(self):
        self.refused(write("short.txt", b"x" * 32), "32", "sequence")
        self.refused(bin_file("short.bin", [1] * 32), "32", "sequence")
        train(*TINY, data=write("just.txt", b"x" * 33))  # one more is enough

    def test_token_outside_the_vocabulary(self):
        some = tokens()
        some[1234] = TINY_VOCABULARY
        self.refused(bin_file("outside.bin", some), "outside.bin", str(TINY_VOCABULARY), "1234", "vocabulary")
        self.refused(write("outside.txt", b"a" * 100 + b"\xff" + b"a" * 100), "255", "100", "vocabulary")

    def test_odd_bin(self):
        self.refused(write("odd.bin", b"\1\0" * 100 + b"\1"), "odd", "201")

    def test_llmc_header_that_lies(self):
        self.refused(bin_file("more.bin", tokens(500), llmc_header(501)), "501", "500")
        self.refused(bin_file("fewer.bin", tokens(500), llmc_header(499)), "499", "500")
        self.refused(bin_file("negative.bin", tokens(500), llmc_header(-500)), "-500")
        self.refused(bin_file("version.bin", tokens(500), llmc_header(500, version=2)), "version")
        self.refused(write("header.bin", llmc_header(0)), "header")
        self.refused(write("half.bin", llmc_header(500)[:512]), "header")


def in_mount_namespace(script):
    """A command that runs `script` (sh) with mounts of its own before the program."""
    return ["unshare", "-m", "sh", "-c", script + ' && exec "$@"', "sh"]


def can_mount(script):
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    return subprocess.run([*in_mount_namespace(script), "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


class BadRun(Case):
    """Exit code 1: seen at run time."""

    def refused(self, *arguments, names=(), alone=True, **popen):
        return self.assert_refused(run("train", "--data", text_file(), *arguments, **popen), 1, *names, alone=alone)

    def spill_refused(self, directory, *names, **popen):
        return self.refused(*TINY, "--memory-budget", "64MiB", "--spill-dir", directory, names=[directory, *names], **popen)

    def test_spill_directory_missing(self):
        self.spill_refused(os.path.join(ROOT, "nowhere"))

    def test_spill_directory_is_a_file(self):
        self.spill_refused(text_file())

    def test_spill_directory_that_takes_no_files(self):
        self.spill_refused("/proc")

    def test_spill_directory_not_writable(self):
        directory = os.path.join(ROOT, "readonly")
        os.mkdir(directory, 0o555)
        if os.geteuid() != 0:
            self.spill_refused(directory, "ermission denied")
        elif can_mount(f"mount -t tmpfs -o ro none {directory}"):
            self.spill_refused(directory, "ead-only", command=in_mount_namespace(f"mount -t tmpfs -o ro none {directory}"))
        else:
            self.skipTest("permission bits do not stop root, and no file system can be mounted here")

    def test_spill_directory_too_small(self):
        directory = os.path.join(ROOT, "tiny-disk")
        os.mkdir(directory)
        mount = f"mount -t tmpfs -o size=16m none {directory}"
        if not can_mount(mount):
            self.skipTest("no file system can be mounted here")
        line = self.refused(*SMALL, "--memory-budget", "60MiB", "--spill-dir", directory, names=[directory],
                            command=in_mount_namespace(mount))
        self.assertRegex(line, r"MiB")

    def test_direct_io_where_there_is_none(self):
        directory = os.path.join(ROOT, "no-direct")
        os.mkdir(directory)
        mount = f"mount -t ramfs none {directory}"
        probe = ("import os,sys\ntry: os.open(sys.argv[1] + '/x', os.O_CREAT | os.O_RDWR | os.O_DIRECT)\n"
                 "except OSError: sys.exit(0)\nsys.exit(1)")
        if not can_mount(mount):
            self.skipTest("no file system can be mounted here")
        if subprocess.run([*in_mount_namespace(mount), sys.executable, "-c", probe, directory]).returncode != 0:
            self.skipTest("ramfs accepts O_DIRECT on this kernel")
        command = in_mount_namespace(mount)
        self.refused(*TINY, "--memory-budget", "64MiB", "--spill-dir", directory, "--direct", "require",
                     names=["O_DIRECT", directory], command=command)
        # Unforced it falls back, with one warning.
        done = train(*SMALL, "--memory-budget", "40MiB", "--spill-dir", directory, command=command)
        self.assertNotIn("O_DIRECT", done.summary["io_backend"])
        self.assertGreater(done.summary["disk_read_bytes"], 0)
        warnings = [line for line in done.stderr.splitlines() if "O_DIRECT" in line]
        self.assertEqual(len(warnings), 1, str(done))
        self.assertEqual(bits(done.summary), bits(plain(*SMALL)))

    def test_impossible_budget_says_the_bound(self):
        # The token embedding's value and gradient: 2 x 2048 x 256 x 4 bytes.
        wide = ["--model", "tiny-gpt2", "--hidden-size", "256", "--vocab-size", "32768", "--sequence-length", "32"]
        line = self.refused(*wide, "--memory-budget", "24MiB", names=["24.0 MiB", "bound", "32.0 MiB"])
        self.assertIn("impossible", line)
        self.refused(*TINY, "--memory-budget", "1KiB", names=["impossible"])

    def test_activations_that_do_not_fit(self):
        line = self.refused(*SMALL, "--batch-size", "256", "--memory-budget", "40MiB", alone=False)
        self.assertRegex(line, r"allocation of [\d.]+ [KMG]iB")
        for holder in ("budget 40.0 MiB", "chunks", "non-model"):  # who holds what
            self.assertIn(holder, line)
        least = re.search(r"least budget seen to be needed so far: ([\d.]+) MiB", line)
        self.assertIsNotNone(least, line)
        self.assertGreater(float(least[1]), 40, line)  # this one was too small

    def test_a_batch_that_never_fits_is_refused_at_once(self):
        """Before its tokens are read: 10^9 x 64 of them would take the machine's memory beside the budget."""
        self.refused(*SMALL, "--batch-size", 10**9, "--memory-budget", "1GiB", names=["1000000000 x 64", "the budget of 1.0", "--batch-size"])
        self.refused(*SMALL, "--batch-size", 10**9, "--plain", names=["available memory", "--batch-size"])

    def test_least_budget_named_by_an_error_leads_further(self):
        """Whoever follows the advice gets there in a few tries, and never to a smaller budget."""
        budget = 8.0
        for _ in range(4):
            done = run("train", "--data", text_file(), *SMALL, "--batch-size", "8", "--memory-budget", f"{budget}MiB", "--spill-dir", ROOT)
            if done.code == 0:
                break
            line = self.assert_refused(done, 1, "budget", alone=False)
            least = re.search(r"least budget seen to be needed so far: ([\d.]+) MiB", line)
            self.assertIsNotNone(least, line)
            self.assertGreater(float(least[1]), budget, line)
            budget = float(least[1])
        self.assertEqual(done.code, 0, str(done))

    def test_loss_that_is_no_number(self):
        for baseline in ([], ["--plain"]):
            with self.subTest(baseline=baseline):
                done = run("train", "--data", text_file(), *TINY, "--steps", "9", "--lr", "1e12", *baseline)
                line = self.assert_refused(done, 1, "loss", "step", alone=False)
                steps = sum(text.startswith("step ") for text in done.stderr.splitlines())
                self.assertIn(f"step {steps + 1} ", line + " ")
                self.assertRegex(line, "NaN|infinite")

    def test_summary_not_writable(self):
        for path in (os.path.join(ROOT, "nowhere", "summary.json"), "/proc/summary.json", ROOT):
            with self.subTest(path=path):
                self.refused(*TINY, "--summary", path, names=[path], alone=False)
        self.assertEqual([name for name in os.listdir(os.path.dirname(ROOT)) if name.startswith(os.path.basename(ROOT) + ".")], [])

    def test_events_not_writable(self):
        path = os.path.join(ROOT, "nowhere", "events.jsonl")
        self.refused(*TINY, "--events", path, names=[path])
        self.refused(*TINY, "--timeline", path, names=[path])


# --- the same bits, within the budget ------------------------------------------------------------------------------------------


def roomy(*options):
    return once(("roomy", options), lambda: train(*options, "--memory-budget", "1GiB")).summary


class Exact(Case):
    """losses_hex and weights_hash of budget runs equal --plain's."""

    def check(self, *options, shape=SMALL, io=None, own_gradients=False):
        job = (*shape, *options)
        baseline = plain(*job)
        self.assertEqual(baseline["runner"], "plain")
        self.assertEqual(len(baseline["losses_hex"]), 2)
        wide = train(*job, "--memory-budget", full_budget(baseline, baseline["model_data_bytes"]), *(io or [])).summary
        self.assertEqual(wide["runner"], "engine")
        self.assertEqual(bits(wide), bits(baseline), "at 100 %")
        tight_budget = min(wide["smallest_budget_bytes"], wide["model_data_bytes"] // 2)
        tight = train(*job, "--memory-budget", tight_budget, *(io or [])).summary
        self.assertEqual(bits(tight), bits(baseline), f"at {tight_budget} bytes")
        self.assertGreater(tight["evictions"], 0)
        for kind in ("param", "state") + (("grad",) if own_gradients else ()):
            self.assertGreater(tight["traffic"][kind]["written_bytes"], 0, kind)
            self.assertGreater(tight["traffic"][kind]["read_bytes"], 0, kind)
        for summary in (wide, tight):
            self.assertLessEqual(summary["peak_total_bytes"], summary["budget_bytes"])
            self.assertLessEqual(summary["peak_rss_bytes"], summary["budget_bytes"] + 256 * MIB)
        return tight

    def test_bf16(self):
        self.check()

    def test_untied_head(self):
        untied = self.check("--head", "untied")
        self.assertEqual(untied["parameters"], plain(*SMALL)["parameters"] + 2048 * 256)

    def test_fp32(self):
        self.check("--dtype", "fp32", own_gradients=True)

    def test_accumulation(self):
        self.check("--accumulate", "2", own_gradients=True)

    def test_clipping(self):
        clipped = self.check("--grad-clip", "0.1")
        self.assertNotEqual(clipped["weights_hash"], plain(*SMALL)["weights_hash"])  # it did clip

    def test_fp32_clipping_accumulation(self):
        self.check("--dtype", "fp32", "--grad-clip", "0.1", "--accumulate", "2", own_gradients=True)

    def test_checkpointed_activations(self):
        checkpointed = self.check("--checkpoint-activations")
        self.assertEqual(bits(checkpointed), bits(plain(*SMALL)))

    def test_steps_by_the_plan(self):
        """Two steps are watched; from the third on the plan is followed, whenever tiles are updated."""
        job = (*SMALL, "--steps", "6")
        baseline = plain(*job)
        tight = min(plain(*SMALL)["steps_peak_non_model_bytes"] + baseline["model_data_bytes"] // 2, baseline["model_data_bytes"])
        for schedule in ("step", "deferred", "overlapped"):
            with self.subTest(schedule):
                trace = fresh("trace")
                done = train(*job, "--memory-budget", tight, "--update-schedule", schedule, "--trace", trace).summary
                self.assertEqual(bits(done), bits(baseline))
                self.assertEqual((done["orchestration"]["plans"] > 0, done["orchestration"]["following"]), (True, True))
                self.assertGreater(done["evictions"], 0)
                replayed = run("replay", "--trace", trace, f"--tier=host={tight}", "--tier=disk=10GB,bandwidth=1GB/s", "--json")
                self.assertEqual(replayed.code, 0, replayed.stderr)
        on_demand = train(*job, "--memory-budget", tight, "--prefetch", "on-demand").summary
        self.assertEqual(bits(on_demand), bits(baseline))
        self.assertNotIn("orchestration", on_demand)

    def test_layouts(self):
        """Where tensors lie, and in what order, changes no bits; a layout of another model is refused."""
        job = (*SMALL, "--steps", "4")
        baseline = plain(*job)
        tight = plain(*SMALL)["steps_peak_non_model_bytes"] + baseline["model_data_bytes"] // 2
        trace, path = fresh(".trace"), fresh(".json")
        train(*job, "--memory-budget", tight, "--chunk-elems", "1", "--trace", trace)
        searched = run("layout", "--trace", trace, f"--tier=host={tight}", "--tier=disk=10GB,bandwidth=1GB/s", "--output", path)
        self.assertEqual(searched.code, 0, str(searched))
        layout = json.loads(pathlib.Path(path).read_text())
        self.assertIn(layout["reason"], searched.stdout)
        self.assertEqual(len(layout["tensors"]), 2 + 6 * 12 + 2)
        layout.update(chunk_elems=300000, tile_elems=65536, order="opposite", tensors=layout["tensors"][::-1])
        pathlib.Path(path).write_text(json.dumps(layout))
        done = train(*job, "--memory-budget", tight, "--layout", path, "--grad-clip", "0.1")
        self.assertEqual(bits(done.summary), bits(plain(*job, "--grad-clip", "0.1")))
        self.assertIn(layout["reason"], done.stderr)
        self.assertIn("in opposite order within each part", done.stderr)
        layout["tensors"][0]["name"] = "elsewhere"
        layout["tensors"][1]["elems"] += 1
        pathlib.Path(path).write_text(json.dumps(layout))
        other = run("train", "--data", text_file(), *job, "--memory-budget", tight, "--layout", path, "--spill-dir", ROOT)
        self.assert_refused(other, 1, "another model's", "missing in it: final.norm.bias", "not in the model: elsewhere", "1 differ", alone=False)
        self.assert_refused(run("train", "--data", text_file(), *job, "--layout", trace, "--spill-dir", ROOT), 1, trace, "JSON")
        unnamed = write("unnamed.trace", b"patrickstar-trace 1\npayloads\np 4096\nmoments\n1 0 r0\nend 1 1 1\n")
        refused = run("layout", "--trace", unnamed, "--tier=host=1GB", "--tier=disk=10GB,bandwidth=1GB/s")
        self.assert_refused(refused, 1, "--chunk-elems 1")

    def test_pread(self):
        self.assertIn("pread", self.check(io=["--io", "pread"])["io_backend"])

    def test_io_uring(self):
        probe = run("train", "--data", text_file(), *TINY, "--io", "io_uring", "--memory-budget", "64MiB", "--spill-dir", ROOT)
        if probe.code != 0 and "io_uring" in "".join(probe.errors()):
            self.skipTest(f"no io_uring here: {probe.errors()[0]}")
        self.assertIn("io_uring", self.check(io=["--io", "io_uring"])["io_backend"])

    def test_frozen_layers(self):
        frozen = self.check("--freeze-layers", "3")
        self.assertLess(frozen["model_data_bytes"], roomy(*SMALL)["model_data_bytes"])

    def test_small_chunks(self):
        self.check("--chunk-elems", "65536", "--tile-elems", "16384")

    def test_llama_shape(self):
        self.check(shape=SMALL_LLAMA)

    def test_schedule_and_warm_up(self):
        self.check("--warmup", "1", "--lr-schedule", "cosine")

    def test_two_threads(self):
        self.check("--threads", "2")

    def test_plain_over_our_arena(self):
        arena = train(*SMALL, "--plain", "--plain-allocator", "arena").summary
        torch = train(*SMALL, "--plain").summary
        self.assertEqual(bits(arena), bits(plain(*SMALL)))
        self.assertEqual(bits(torch), bits(plain(*SMALL)))


class WithinBudget(Case):
    def largest_operator_bytes(self, options, element_bytes):
        # The tied token embedding: its value and its gradient.
        hidden = int(options[options.index("--hidden-size") + 1])
        vocabulary = int(options[options.index("--vocab-size") + 1])
        return 2 * element_bytes * max(vocabulary * hidden, 4 * hidden * hidden)

    def test_smallest_budget_of_a_roomy_run_works(self):
        for options in ((), ("--dtype", "fp32"), ("--checkpoint-activations", "--chunk-elems", "65536", "--tile-elems", "16384")):
            with self.subTest(options=options):
                wide = roomy(*SMALL, *options)
                self.assertEqual(wide["evictions"], 0)
                self.assertLess(wide["smallest_budget_bytes"], wide["peak_total_bytes"])
                tight = train(*SMALL, *options, "--memory-budget", wide["smallest_budget_bytes"]).summary
                self.assertEqual(bits(tight), bits(wide))
                self.assertEqual(bits(tight), bits(plain(*SMALL, *options)))
                self.assertLessEqual(tight["peak_total_bytes"], tight["budget_bytes"])
                self.assertLessEqual(tight["peak_rss_bytes"], tight["budget_bytes"] + 256 * MIB)

    def test_smallest_budget_meets_the_bound(self):
        for options, element_bytes in (((), 2), (("--dtype", "fp32"), 4)):
            with self.subTest(options=options):
                baseline = plain(*SMALL, *options)
                bound = 1.10 * (baseline["steps_peak_non_model_bytes"] + self.largest_operator_bytes(SMALL, element_bytes) + 64 * MIB)
                self.assertLessEqual(roomy(*SMALL, *options)["smallest_budget_bytes"], bound)

    def test_smallest_budget_is_at_most_a_budget_that_worked(self):
        wide = roomy(*SMALL)
        for budget in (wide["smallest_budget_bytes"], 20 * MIB):
            with self.subTest(budget=budget):
                done = run("train", "--data", text_file(), *SMALL, "--memory-budget", budget, "--summary", fresh(".json"), "--spill-dir", ROOT)
                if done.code != 0:
                    self.assert_refused(done, 1, "budget", alone=False)
                    continue
                self.assertLessEqual(done.summary["smallest_budget_bytes"], budget)

    def test_figures_agree_with_each_other(self):
        tight = train(*SMALL, "--memory-budget", "40MiB").summary
        self.assertEqual(sum(tight["disk_read_bytes_per_step"]) <= tight["disk_read_bytes"], True)
        self.assertEqual(sum(kind["read_bytes"] for kind in tight["traffic"].values()), tight["disk_read_bytes"])
        self.assertEqual(sum(kind["written_bytes"] for kind in tight["traffic"].values()), tight["disk_written_bytes"])
        self.assertLessEqual(tight["peak_total_bytes"], 40 * MIB)
        self.assertAlmostEqual(tight["model_data_bytes"] / (14 * tight["parameters"]), 1.0, delta=0.01)
        fp32 = roomy(*SMALL, "--dtype", "fp32")
        self.assertAlmostEqual(fp32["model_data_bytes"] / (16 * fp32["parameters"]), 1.0, delta=0.01)

    def test_without_a_budget_it_takes_one_and_says_so(self):
        done = train(*TINY)
        self.assertGreater(done.summary["budget_bytes"], 0)
        self.assertIn("80 %", done.stdout + done.stderr)


class UnderAHardLimit(Case):
    """A hard limit of budget + 384 MiB, by a cgroup where one can be made and by RLIMIT_DATA (private mappings): the engine finishes,
    plain LibTorch does not."""

    BUDGET = 256 * MIB
    # 58M parameters, 0.8 GiB of model data.
    LARGE = ["--model", "tiny-gpt2", "--hidden-size", "1024", "--layers", "4", "--vocab-size", "8192", "--threads", "2",
             "--steps", "2", "--batch-size", "1", "--sequence-length", "32"]

    def limited(self, limit, *arguments):
        return run("train", "--data", text_file(), *self.LARGE, "--summary", fresh(".json"), *arguments, preexec_fn=limit.enter)

    def test_finishes_where_plain_dies_in_a_cgroup(self):
        with hard_limit(self.BUDGET + 384 * MIB) as limit:
            if limit.kind == Rlimit.kind:
                self.skipTest("no memory cgroup can be made here")
            done = self.limited(limit, "--memory-budget", self.BUDGET, "--spill-dir", ROOT)
            self.assertEqual(done.code, 0, str(done))
            self.assertGreater(done.summary["evictions"], 0)
            self.assertEqual(bits(done.summary), bits(plain(*self.LARGE)))
            starved = self.limited(limit, "--plain")
            self.assertEqual(starved.code, -signal.SIGKILL, str(starved))  # the kernel's way to say it
        self.assertFalse(limit.directory.exists())

    def test_finishes_where_plain_dies(self):
        with hard_limit(self.BUDGET + 384 * MIB, use_cgroup=False) as limit:
            self.finishes_where_plain_dies(limit)

    def finishes_where_plain_dies(self, limit):
        done = self.limited(limit, "--memory-budget", self.BUDGET, "--spill-dir", ROOT)
        self.assertEqual(done.code, 0, str(done))
        self.assertGreater(done.summary["model_data_bytes"], 3 * self.BUDGET)
        self.assertGreater(done.summary["evictions"], 0)
        self.assertLessEqual(done.summary["peak_total_bytes"], self.BUDGET)
        self.assertLessEqual(done.summary["peak_rss_bytes"], self.BUDGET + 256 * MIB)
        starved = self.limited(limit, "--plain")
        self.assertNotEqual(starved.code, 0, str(starved))
        self.assert_refused(starved, 1, alone=False)
        # Without the limit plain gives the same bits, and the bound of contract 3 holds at this size too.
        baseline = plain(*self.LARGE)
        self.assertEqual(bits(done.summary), bits(baseline))
        operator = 2 * 2 * 8192 * 1024
        self.assertLessEqual(done.summary["smallest_budget_bytes"], 1.10 * (baseline["steps_peak_non_model_bytes"] + operator + 64 * MIB))


# --- the disk --------------------------------------------------------------------------------------------------------------------


def kernel_counts_direct_io(directory):
    """Whether what is written with O_DIRECT in `directory` shows in a child's resource usage."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(OSError):
            fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT, 0o600)
            os.pwrite(fd, mmap.mmap(-1, MIB), 0)
            code = 0
        os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    return status == 0 and usage.ru_oublock * 512 >= MIB


class Disk(Case):
    def test_the_kernel_counts_the_same_bytes(self):
        if not kernel_counts_direct_io(ROOT):
            self.skipTest(f"the kernel does not account for direct I/O in {ROOT}")
        for io in ("pread", "auto"):
            with self.subTest(io=io):
                # The same run without disk traffic: what loading the program costs (nothing, once it is cached).
                still = train(*SMALL, "--io", io, "--memory-budget", "1GiB")
                self.assertEqual(still.summary["disk_read_bytes"] + still.summary["disk_written_bytes"], 0)
                done = train(*SMALL, "--io", io, "--direct", "require", "--memory-budget", "40MiB")
                self.assertIn("O_DIRECT", done.summary["io_backend"])
                for field, name in (("ru_inblock", "disk_read_bytes"), ("ru_oublock", "disk_written_bytes")):
                    kernel = 512 * (getattr(done.usage, field) - getattr(still.usage, field))
                    self.assertGreater(done.summary[name], 50 * MIB)
                    self.assertLessEqual(abs(kernel - done.summary[name]), 0.05 * done.summary[name],
                                         f"{name} {done.summary[name]}, the kernel's count {kernel}")


class NothingLeft(Case):
    @contextlib.contextmanager
    def started(self, *arguments):
        """The program with its first two steps done, its spill directory and its stderr's lines so far."""
        spill = tempfile.mkdtemp(dir=ROOT)
        with subprocess.Popen([PROGRAM, *last_wins(["train", "--data", text_file(), *SMALL, "--steps", "100000", "--memory-budget", "40MiB",
                                                      "--spill-dir", spill, *arguments])], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True) as child:
            try:
                lines = []
                for line in child.stderr:
                    lines.append(line)
                    if line.startswith("step 2/"):
                        break
                self.assertIsNone(child.poll(), "".join(lines))
                yield child, spill, lines
            finally:
                if child.poll() is None:
                    child.kill()

    def test_after_sigkill(self):
        timeline = fresh(".json")
        with self.started("--timeline", timeline) as (child, spill, _):
            scratch = [link for link in (self.target(child.pid, fd) for fd in os.listdir(f"/proc/{child.pid}/fd")) if spill in link]
            self.assertEqual(len(scratch), 1)  # it stands there, without a name
            self.assertIn("(deleted)", scratch[0])
            self.assertEqual(os.listdir(spill), [])
            child.kill()
            child.wait()
            self.assertEqual(child.returncode, -signal.SIGKILL)
            self.assertEqual(os.listdir(spill), [])
        # The array may lack its bracket; nothing else is cut short.
        self.assertIn("step 2", [event["name"] for event in json.loads(pathlib.Path(timeline).read_text() + "]")])

    @staticmethod
    def target(pid, fd):
        try:
            return os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            return ""

    def test_signals_end_after_the_step(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number.name):
                path = fresh(".json")
                timeline = fresh(".json")
                with self.started("--summary", path, "--timeline", timeline) as (child, spill, lines):
                    child.send_signal(number)
                    lines += child.stderr.readlines()
                    self.assertEqual(child.wait(TIMEOUT_S), 0, "".join(lines))
                    self.assertEqual(os.listdir(spill), [])
                self.assertEqual(sum("stopping after this step" in line for line in lines), 1)
                summary = json.loads(pathlib.Path(path).read_text())
                self.assertIs(summary["interrupted"], True)
                shown = sum(line.startswith("step ") for line in lines)
                self.assertGreaterEqual(shown, 2)
                self.assertEqual(len(summary["losses"]), shown)
                steps = [event for event in json.loads(pathlib.Path(timeline).read_text()) if event["name"].startswith("step ")]
                self.assertEqual(len(steps), shown)
                self.assertRegex(summary["weights_hash"], "^[0-9a-f]{16}$")
                # What was trained until then is what a run of that length gives.
                as_long = train(*SMALL, "--steps", len(summary["losses"]), "--memory-budget", "1GiB").summary
                self.assertEqual(bits(summary), bits(as_long))

    def test_after_an_error(self):
        spill, timeline = tempfile.mkdtemp(dir=ROOT), fresh(".json")
        done = run("train", "--data", text_file(), *TINY, "--steps", "9", "--lr", "1e12", "--spill-dir", spill, "--timeline", timeline)
        self.assertEqual(done.code, 1)
        self.assertIn("step 1", [event["name"] for event in json.loads(pathlib.Path(timeline).read_text())])
        self.assertEqual(os.listdir(spill), [])


# --- what it says ----------------------------------------------------------------------------------------------------------------


class Repeatable(Case):
    def test_the_same_options_twice(self):
        options = (*SMALL, "--memory-budget", "40MiB", "--grad-clip", "1")
        first, second = train(*options).summary, train(*options).summary
        self.assertEqual(bits(first), bits(second))
        self.assertEqual(first["disk_read_bytes"], second["disk_read_bytes"])
        self.assertIs(first["interrupted"], False)

    def test_another_seed(self):
        first, second = train(*TINY).summary, train(*TINY, "--seed", "2").summary
        self.assertNotEqual(first["losses_hex"], second["losses_hex"])
        self.assertNotEqual(first["weights_hash"], second["weights_hash"])

    def test_losses_are_the_bits(self):
        summary = train(*TINY).summary
        for text, value in zip(summary["losses_hex"], summary["losses"], strict=True):
            single = array.array("I", [int(text, 16)])
            self.assertEqual(value, float(f"{array.array('f', single.tobytes())[0]:.9g}"))


class Validation(Case):
    def test_losses_in_the_summary(self):
        done = train(*TINY, "--steps", "4", "--validate-every", "2", "--validate-batches", "2", "--memory-budget", "64MiB")
        validation = done.summary["validation"]
        self.assertEqual([entry["step"] for entry in validation], [2, 4])
        for entry in validation:
            self.assertGreater(entry["loss"], 0)
        baseline = train(*TINY, "--steps", "4", "--validate-every", "2", "--validate-batches", "2", "--plain").summary
        self.assertEqual(validation, baseline["validation"])
        # Looking does not change the training.
        self.assertEqual(bits(done.summary), bits(train(*TINY, "--steps", "4").summary))
        self.assertLess(validation[1]["loss"], validation[0]["loss"] + 1)

    def test_within_a_tight_budget(self):
        options = (*SMALL, "--validate-every", "1", "--validate-batches", "1")
        tight, baseline = train(*options, "--memory-budget", "40MiB").summary, train(*options, "--plain").summary
        self.assertEqual(tight["validation"], baseline["validation"])
        self.assertEqual(bits(tight), bits(baseline))
        self.assertLessEqual(tight["peak_total_bytes"], 40 * MIB)


class ForwardOnly(Case):
    def test_the_first_loss_is_that_of_training(self):
        for small in (SMALL, SMALL_LLAMA):
            shape = (*small, "--layers", "16")  # 20 MB or more of parameters
            trained = train(*shape, "--steps", "1", "--memory-budget", "64MiB").summary
            for options in (("--plain",), ("--memory-budget", "18MiB")):
                with self.subTest(shape=shape[1], options=options):
                    forward = train(*shape, "--steps", "1", "--forward-only", *options).summary
                    self.assertEqual(forward["losses_hex"], trained["losses_hex"])
                    self.assertEqual(forward["model_data_bytes"] // forward["parameters"], 2)
        self.assertGreater(forward["disk_read_bytes"], 0)

    def test_every_step_has_a_batch_of_its_own(self):
        losses = train(*TINY, "--steps", "3", "--forward-only", "--plain").summary["losses_hex"]
        self.assertEqual(len(set(losses)), 3)
        self.assertEqual(len(set(train(*TINY, "--steps", "3", "--forward-only", "--repeat-batch").summary["losses_hex"])), 1)


class DataFormats(Case):
    def test_two_forms_of_bin(self):
        some = tokens()
        nanogpt = train(*TINY, data=bin_file("nanogpt.bin", some)).summary
        llmc = train(*TINY, data=bin_file("llmc.bin", some, llmc_header(len(some)))).summary
        self.assertEqual(bits(nanogpt), bits(llmc))

    def test_text_is_bytes(self):
        content = bytes(tokens())
        self.assertEqual(bits(train(*TINY, data=write("bytes.txt", content)).summary),
                         bits(train(*TINY, data=bin_file("words.bin", list(content))).summary))

    def test_a_path_that_is_not_utf8(self):
        done = train(*TINY, data=write(os.fsdecode(b"caf\xe9.txt"), bytes(tokens())))
        self.assertTrue(done.summary["options"]["data"].endswith("caf\ufffd.txt"), done.summary["options"]["data"])

    def test_it_learns(self):
        losses = train(*TINY, "--steps", "30", "--lr", "3e-3", "--repeat-batch").summary["losses"]
        self.assertLess(losses[-1], 0.7 * losses[0])


class Events(Case):
    def test_json_lines(self):
        path = fresh(".jsonl")
        done = train(*SMALL, "--memory-budget", "40MiB", "--events", path)
        events = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
        self.assertGreater(len(events), done.summary["evictions"])
        for event in events:
            self.assertIsInstance(event, dict)
        self.assertEqual(bits(done.summary), bits(plain(*SMALL)))  # observers change nothing
        self.assertEqual([event["bytes"] for event in events if event["event"] == "step"], [0, 1, 2])

    def test_timeline_beside_events_and_report(self):
        events, timeline = fresh(".jsonl"), fresh(".json")
        done = train(*SMALL, "--steps", "5", "--memory-budget", "40MiB", "--events", events, "--timeline", timeline, "--report")
        moved = {"fetch_done": 0, "write_done": 0}
        for line in pathlib.Path(events).read_text().splitlines():
            event = json.loads(line)
            if event["event"] in moved:
                moved[event["event"]] += 1
        objects = json.loads(pathlib.Path(timeline).read_text())
        tracks = {o["tid"]: o["args"]["name"] for o in objects if o["name"] == "thread_name"}
        slices = [(tracks[o["tid"]], o) for o in objects if o["ph"] == "X"]
        self.assertEqual(sum(track.startswith("reads") for track, _ in slices), moved["fetch_done"])
        self.assertEqual(sum(track.startswith("writes") for track, _ in slices), moved["write_done"])
        self.assertGreater(sum(track.startswith("stalls") for track, _ in slices), 0)
        ends = {}
        for track, o in sorted(slices, key=lambda slice: slice[1]["ts"]):
            self.assertGreaterEqual(round(o["ts"] - ends.get(track, 0), 3), 0, f"{track}: {o}")  # none overlaps the one before it
            ends[track] = o["ts"] + o["dur"]
        summary = done.summary
        chunks = summary["chunks"]
        # What is brought ahead after a step counts for the next one. After the last step the weights are hashed: that reads more, which is
        # the process's and no step's doing.
        of_chunks, of_steps = sum(c["read_bytes"] for c in chunks), sum(summary["disk_read_bytes_per_step"])
        self.assertGreaterEqual(of_chunks, of_steps)
        self.assertLess(of_chunks, summary["disk_read_bytes"])
        self.assertEqual(sum(c["evictions"] for c in chunks), summary["evictions"])
        self.assertEqual(sum(c["misses"] for c in chunks), summary["misses"])
        self.assertEqual(sum(c["late_prefetches"] for c in chunks), summary["late_prefetches"])
        self.assertEqual(sum(c["uses"] for c in chunks), summary["accesses"])
        for name in ("accesses", "misses", "late_prefetches", "planned_read_bytes", "planned_written_bytes"):
            self.assertEqual(len(summary[f"{name}_per_step"]), 5)
        self.assertEqual(summary["planned_read_bytes_per_step"][0], 0)
        self.assertGreater(summary["planned_read_bytes_per_step"][4], 0)
        least = summary["least_bytes_per_step"]
        self.assertGreaterEqual(summary["disk_read_bytes_per_step"][4] + summary["disk_written_bytes_per_step"][4],
                                0.99 * (least["read"] + least["written"]))  # fmt: skip
        self.assertRegex(done.stdout, r"(?m)^ step +time s")
        self.assertRegex(done.stdout, r"(?m)^bound ")
        self.assertIn("of state", done.stdout)
        self.assertEqual(bits(summary), bits(train(*SMALL, "--steps", "5", "--memory-budget", "1GiB").summary))


class Pause(Case):
    def test_writes_what_is_known_and_stops(self):
        summary, transfers = fresh(".json"), fresh(".transfers")
        command = [PROGRAM, *last_wins(["train", "--data", text_file(), *SMALL, "--steps", "4", "--memory-budget", "40MiB", "--spill-dir", ROOT,
                                        "--pause-after", "2,3", "--summary", summary, "--transfers", transfers])]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            try:
                for steps in (2, 3):
                    _, status = os.waitpid(child.pid, os.WUNTRACED)
                    self.assertTrue(os.WIFSTOPPED(status), status)
                    so_far = json.loads(pathlib.Path(summary).read_text())
                    self.assertEqual(len(so_far["losses_hex"]), steps)
                    self.assertEqual(so_far["weights_hash"], "")  # taking it would move chunks
                    self.assertEqual(pathlib.Path(transfers).read_text().splitlines().count("step"), steps)
                    child.send_signal(signal.SIGCONT)
                self.assertEqual(child.wait(TIMEOUT_S), 0)
            finally:
                child.kill()
        done = json.loads(pathlib.Path(summary).read_text())
        self.assertEqual(bits(done), bits(train(*SMALL, "--steps", "4").summary))
        # What was started in the steps is what was moved in them, but for what was under way at either end.
        lines = [line.split() for line in pathlib.Path(transfers).read_text().splitlines()]
        for letter, key in (("r", "disk_read_bytes_per_step"), ("w", "disk_written_bytes_per_step")):
            started = sum(int(line[2]) for line in lines if line[0] == letter)
            self.assertGreater(started, 0)
            self.assertLessEqual(abs(started - sum(done[key])), 40 * MIB)

    def test_figures_of_each_step(self):
        done = train(*SMALL, "--steps", "4", "--memory-budget", "40MiB").summary
        for key, total in (("accesses_per_step", "accesses"), ("misses_per_step", "misses"), ("late_prefetches_per_step", "late_prefetches")):
            self.assertEqual(len(done[key]), 4)
            self.assertLessEqual(sum(done[key]), done[total])
        self.assertGreater(min(done["accesses_per_step"]), 0)


class Bench(Case):
    """Structure, never times: others may use the machine."""

    def test_quick(self):
        spill, temporary, path = tempfile.mkdtemp(dir=ROOT), tempfile.mkdtemp(dir=ROOT), fresh(".json")
        done = run("bench", "--quick", "--spill-dir", spill, "--json", path, env={**os.environ, "TMPDIR": temporary})
        self.assertEqual(done.code, 0, str(done))
        self.assertEqual((os.listdir(spill), os.listdir(temporary)), ([], []))
        report = json.loads(pathlib.Path(path).read_text())
        self.assertTrue(report["commit"])
        self.assertEqual(report["options"]["shares"], [50])
        for key in ("io_backend", "replay_backend", "simd", "torch"):
            self.assertTrue(report["runs"][key], key)
        [setting] = report["settings"]
        self.assertNotIn("not_reached", setting)
        self.assertIs(setting["bits_equal"], True)
        self.assertEqual((setting["wanted_ratio"], setting["ratio_reached"]), (None, True))
        self.assertEqual(setting["limit_trusted"], setting["time_by_limit"] >= 0.98)
        self.assertEqual(setting["disk_bytes_per_second"],
                         max(setting["replay_bytes_per_second"], setting["training_bytes_per_second"]))
        for figure in ("step_seconds", "limit_seconds", "compute_seconds", "transfers_seconds", "window_seconds", "predicted_seconds",
                       "moved_bytes", "least_bytes", "ring_bytes", "disk_bytes_per_second", "time_by_limit", "predicted_by_measured",
                       "compute_beside_disk_seconds", "limit_beside_disk_seconds", "time_by_limit_beside_disk",
                       "training_bytes_per_second", "replay_bytes_per_second"):
            self.assertGreater(setting[figure], 0, figure)
        self.assertAlmostEqual(setting["limit_seconds"],  # each moment's compute is rounded to nanoseconds
                               max(setting["compute_seconds"], setting["transfers_seconds"], setting["window_seconds"]), delta=1e-5)
        self.assertEqual((setting["time_by_limit_allowed"], setting["prediction_error_allowed"]), (1.1, 0.1))
        self.assertGreater(setting["traffic_by_least_allowed"], 1.05)
        self.assertGreater(setting["traffic_by_least"], 1)
        self.assertLessEqual(setting["peak_total_bytes"], setting["budget_bytes"])
        self.assertEqual(setting["budget_bytes"], setting["plain_peak_non_model_bytes"] + setting["model_data_bytes"] // 2)
        self.assertTrue(0 <= setting["hit_rate"] <= 1)
        samples = setting["samples"]
        self.assertLessEqual(len(samples), 8)
        self.assertEqual(setting["discarded"], sum(sample["discarded"] is not None for sample in samples))
        self.assertEqual(setting["steady"], samples[setting["shown_sample"]]["discarded"] is None)
        self.assertEqual(setting["time_by_limit"], samples[setting["shown_sample"]]["time_by_limit"])
        for sample in samples:
            names = ("step_seconds", "compute_step_seconds_before", "compute_step_seconds_after", "compute_beside_disk_step_seconds")
            self.assertEqual([len(sample[name]) for name in names], [2, 2, 2, 2])
            for figure in ("disk_seconds_before", "disk_seconds_after", "replayed_bytes"):
                self.assertGreater(sample[figure], 0, figure)
        for text in ("by limit", "(<=1.10)", "1 x 64", "1 of 1 settings reached", "bit for bit"):
            self.assertIn(text, done.stdout)

    def test_a_report_that_cannot_be_written_is_refused_first(self):
        done = run("bench", "--quick", "--json", os.path.join(ROOT, "nowhere", "bench.json"))
        self.assert_refused(done, 1, "nowhere")

    def test_children_go_with_it(self):
        command = [PROGRAM, "bench", "--quick", "--spill-dir", ROOT]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "TMPDIR": tempfile.mkdtemp(dir=ROOT)}, start_new_session=True) as bench:
            lines = []
            for line in bench.stderr:
                lines.append(line)
                if "warms up" in line:
                    break
            self.assertGreater(len(self.alive(bench.pid)), 1, "".join(lines))
            bench.kill()
        deadline = time.monotonic() + TIMEOUT_S
        while self.alive(bench.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(self.alive(bench.pid), [])

    @staticmethod
    def alive(session):
        """Processes of this session; those that only wait for their parent are none."""
        found = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, of_session = stat.read_text().rsplit(")", 1)[1].split()[:4]
                if int(of_session) == session and state != "Z":
                    found.append(int(stat.parent.name))
        return found


class Help(Case):
    def test_help_and_version(self):
        for arguments in (["--help"], ["-h"], ["--version"], ["train", "--help"], ["bench", "--help"]):
            with self.subTest(arguments=arguments):
                done = run(*arguments)
                self.assertEqual(done.code, 0, str(done))
                self.assertEqual(done.stderr, "")
                self.assertTrue(done.stdout)
        self.assertRegex(run("--version").stdout, r"^patrickstar \d+\.\d+")
        self.assertIn("--memory-budget", run("train", "--help").stdout)


class NoTerminal(Case):
    def test_plain_lines(self):
        done = train(*TINY, "--memory-budget", "64MiB")
        self.assertEqual([line.split("  ")[0] for line in done.stderr.splitlines() if line.startswith("step ")], ["step 1/2", "step 2/2"])
        self.assertNotIn("\r", done.stderr)
        self.assertNotIn("\033", done.stderr)


def main():
    global PROGRAM, ROOT
    if len(sys.argv) < 2 or not os.access(sys.argv[1], os.X_OK):
        sys.exit(__doc__)
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    os.environ["OMP_WAIT_POLICY"] = "passive"  # spinning threads starve each other on a busy machine
    base = os.environ.get("PATRICKSTAR_CLI_TEST_DIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else None)
    with tempfile.TemporaryDirectory(prefix="patrickstar_cli_test.", dir=base) as ROOT:
        outcome = unittest.main(exit=False, verbosity=2).result
    sys.exit(not outcome.wasSuccessful())


if __name__ == "__main__":
    main()
