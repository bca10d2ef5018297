#!/usr/bin/env python3
"""Checks the borders of docs/design.md: which folder may include which, and what must stay out of where.

    base < obs < trace < policy < mem < {io, optim, dist} < sim < bridge < {python, apps}      models < apps

Prints one line per violation, "file:line: what", then warnings about long files. Exit code 1 when there is a violation.
Usage: tools/check_layers.py [--root DIR]
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SCANNED = ("patrickstar", "apps", "python", "examples", "tests", "bench")
SUFFIXES = (".h", ".cc")

CORE = ("base", "obs", "trace", "policy", "mem", "io", "optim", "dist", "sim")
# What each folder may include besides itself. The order of the keys is the order of the borders.
MAY_INCLUDE = {
    "base": set(),
    "obs": {"base"},
    "trace": {"base", "obs"},
    "policy": {"base", "obs", "trace"},
    "mem": {"base", "obs", "trace", "policy"},
    "io": {"base", "obs", "trace", "policy", "mem"},
    "optim": {"base", "obs", "trace", "policy", "mem"},
    "dist": {"base", "obs", "trace", "policy", "mem"},
    "sim": set(CORE) - {"sim"},
    "bridge": set(CORE),
    "python": {*CORE, "bridge"},
    "models": set(),
    "apps": {*CORE, "bridge", "models"},
}
ORDER = "base < obs < trace < policy < mem < {io, optim, dist} < sim < bridge < {python, apps}, models < apps"

TORCH = re.compile(r"(torch|ATen|c10|caffe2)/")
CUDA = re.compile(r"(cuda|cub|thrust|cudnn|cublas|cusparse|cusolver|curand|cufft|nccl|nvtx|nvToolsExt)[\w.]*(/|\.h$|$)")
PYTHON = re.compile(r"(Python\.h$|python\d[\w.]*/|pybind11/|nanobind/)")
FORMATTING = re.compile(r"(fmt|spdlog)/")

MAX_LINES = {".cc": 300, ".h": 150}

# Everything that could hide or fake an #include: comments, raw strings, strings, characters.
TOKENS = re.compile(
    r'//[^\n]*|/\*.*?\*/|(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|' r"'(?:\\.|[^'\\\n])'",
    re.DOTALL,
)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?P<open>[<"])(?P<path>[^>"\n]+)[>"]', re.MULTILINE)
PRAGMA_ONCE = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+once\b", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    file: str
    line: int
    text: str

    def __str__(self):
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Include:
    line: int
    path: str  # as written
    own: str  # path of our own file from the root, or "" for a header of somebody else


def strip_comments(source):
    """The source without comments and raw strings; every line keeps its number."""

    def replace(match):
        token = match.group()
        if token.startswith(("//", "/*")) or match.group("mark") is not None:
            return "\n" * token.count("\n") or " "
        return token

    return TOKENS.sub(replace, source)


def is_testing_folder(path):
    return "testing" in PurePosixPath(path).parts[:-1] and path.startswith("patrickstar/")


def may_include_testing(path):
    return is_testing_folder(path) or path.endswith(("_test.cc", "_bench.cc")) or path.startswith(("tests/", "bench/"))


def layer_of(path):
    """The folder in the order that a file of ours belongs to; "" for one outside the order; None for an unknown one."""
    parts = PurePosixPath(path).parts
    if parts[0] in ("apps", "python"):
        return parts[0]
    if parts[0] != "patrickstar":
        return ""  # examples, tests, bench: see everything
    if is_testing_folder(path):
        return "testing"
    if parts[1] == "core":
        return parts[2] if len(parts) > 3 and parts[2] in CORE else None
    return parts[1] if len(parts) > 2 and parts[1] in ("bridge", "models") else None


def normalise(path):
    """Resolves "." and ".." by the text alone."""
    parts = []
    for part in PurePosixPath(path).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def own_path(root, file, written, quoted):
    """Where an include leads in our own tree, or "" when it is somebody else's header."""
    from_root = normalise(written)
    if from_root.startswith("patrickstar/"):
        return from_root
    if quoted:
        beside = normalise(f"{PurePosixPath(file).parent}/{written}")
        if (root / beside).is_file():
            return beside
    return from_root if from_root.split("/")[0] in SCANNED and (root / from_root).is_file() else ""


class Tree:
    """Our files with their includes."""

    def __init__(self, root):
        self.root = root
        self.files = {}
        self.has_pragma_once = {}
        self.lines = {}
        for folder in SCANNED:
            for path in sorted((root / folder).rglob("*")):
                if path.suffix in SUFFIXES and path.is_file():
                    self._read(path)

    def _read(self, path):
        name = path.relative_to(self.root).as_posix()
        source = path.read_text(encoding="utf-8", errors="replace")
        code = strip_comments(source)
        includes = []
        for match in INCLUDE.finditer(code):
            written = match.group("path")
            own = own_path(self.root, name, written, quoted=match.group("open") == '"')
            includes.append(Include(code.count("\n", 0, match.start()) + 1, written, own))
        self.files[name] = includes
        self.has_pragma_once[name] = bool(PRAGMA_ONCE.search(code))
        self.lines[name] = source.count("\n")

    def reaches(self, file, pattern):
        """How a header that matches is included, directly or through our own files: [file, ..., header], or None."""
        todo, seen = [[file]], {file}
        while todo:
            chain = todo.pop(0)
            for include in self.files.get(chain[-1], ()):
                if not include.own and pattern.match(include.path):
                    return [*chain, include.path]
                if include.own and include.own not in seen:
                    seen.add(include.own)
                    todo.append([*chain, include.own])
        return None


def check_own(file, include):
    """The rules for one include of our own header: what is wrong with it, or None."""
    here, there = layer_of(file), layer_of(include.own)
    if there == "testing":
        if not may_include_testing(file):
            return f"{include.path}: doubles are included by *_test.cc, *_bench.cc, tests/ and bench/ only"
        if file.startswith("patrickstar/core/") and not include.own.startswith("patrickstar/core/"):
            return f"{include.path}: core includes nothing but core"
        return None
    if here in ("", None):
        return None
    if there is None:
        return f"{include.path} stands in no folder of the order"
    if there == "":
        return f"{include.path}: examples, tests and bench are included by nobody else"
    if here == "testing":
        allowed = set(CORE) if file.startswith("patrickstar/core/") else {*CORE, "bridge", "models"}
    else:
        allowed = MAY_INCLUDE[here] | {here}
    if there not in allowed:
        return f"{here} must not include {there} ({include.path}); the order is {ORDER}"
    return None


def check_foreign(file, include):
    """The rules for one include of somebody else's header: what is wrong with it, or None."""
    if file.startswith("patrickstar/core/"):
        for pattern, owner in ((TORCH, "LibTorch"), (CUDA, "CUDA"), (PYTHON, "Python")):
            if pattern.match(include.path):
                return f"core must not include {owner} ({include.path})"
        if file.endswith(".h") and FORMATTING.match(include.path):
            return f"core headers must not include {include.path}: include it in the source file"
    elif CUDA.match(include.path) and file.startswith(("patrickstar/models/", "apps/", "python/")):
        return f"only bridge includes CUDA ({include.path})"
    return None


def check(root):
    """All violations and all warnings under the root, in the order of the files."""
    tree = Tree(Path(root))
    errors, warnings = [], []
    for file, includes in tree.files.items():
        if layer_of(file) is None:
            errors.append(Finding(file, 1, f"stands in no folder of the order: {ORDER}"))
        for include in includes:
            fault = check_own(file, include) if include.own else check_foreign(file, include)
            if fault:
                errors.append(Finding(file, include.line, fault))
        torch, formatting = tree.reaches(file, TORCH), tree.reaches(file, FORMATTING)
        if torch and formatting:
            how = "; ".join(" -> ".join(chain) for chain in (torch, formatting))
            errors.append(Finding(file, 1, f"LibTorch brings its own fmt, so fmt or spdlog must stay out: {how}"))
        # A -inl.h is included once per SIMD target on purpose (Highway).
        if file.endswith(".h") and not file.endswith("-inl.h") and not tree.has_pragma_once[file]:
            errors.append(Finding(file, 1, "no #pragma once"))
        limit = MAX_LINES[Path(file).suffix]
        if file.startswith("patrickstar/core/") and tree.lines[file] > limit:
            warnings.append(Finding(file, limit + 1, f"warning: {tree.lines[file]} lines, more than {limit}"))
    return len(tree.files), errors, warnings


def main():
    parser = argparse.ArgumentParser(description="Checks which folder includes which.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root
    count, errors, warnings = check(root)
    if count == 0:
        print(f"check_layers: no source files under {root}", file=sys.stderr)
        return 2
    for finding in [*warnings, *errors]:
        print(finding)
    print(f"check_layers: {count} files, {len(errors)} violations, {len(warnings)} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
