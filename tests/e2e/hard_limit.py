"""A hard limit of the operating system on a child's memory: a memory cgroup of its own where this process may make one (version 2
or 1), else RLIMIT_DATA, which counts private mappings only.

    with hard_limit(bytes) as limit:
        subprocess.Popen(..., preexec_fn=limit.enter)
    print(limit.kind)
"""

import contextlib
import os
import pathlib
import resource
import tempfile
import time

ROOT = pathlib.Path("/sys/fs/cgroup")


class Rlimit:
    kind = "RLIMIT_DATA"

    def __init__(self, limit):
        self.limit = limit

    def enter(self):
        resource.setrlimit(resource.RLIMIT_DATA, (self.limit, self.limit))


class Cgroup:
    def __init__(self, kind, directory):
        self.kind, self.directory = kind, directory

    def enter(self):
        (self.directory / "cgroup.procs").write_text(str(os.getpid()))


def own_directories():
    """Where this process stands, by version of the hierarchy: (kind, directory, file of the limit)."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield "cgroup v1", ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
            yield "cgroup v1", ROOT / "memory", "memory.limit_in_bytes"  # in a container the path is the host's
        elif controllers == "":
            yield "cgroup v2", ROOT / path.lstrip("/"), "memory.max"


@contextlib.contextmanager
def hard_limit(limit, use_cgroup=True):
    group = None
    for kind, parent, file in own_directories() if use_cgroup else ():
        if not (parent / "cgroup.procs").exists():
            continue  # a plain directory
        directory = None
        with contextlib.suppress(OSError):
            directory = pathlib.Path(tempfile.mkdtemp(prefix="patrickstar-test-", dir=parent))
            (directory / file).write_text(str(limit))
            # Else what does not fit would go there.
            for swap, value in (("memory.swap.max", "0"), ("memory.swappiness", "0")):
                if (directory / swap).exists():
                    (directory / swap).write_text(value)
            group = Cgroup(kind, directory)
            break
        if directory is not None:
            with contextlib.suppress(OSError):
                directory.rmdir()
    try:
        yield group or Rlimit(limit)
    finally:
        for _ in range(50 if group else 0):  # busy until the last of its processes is quite gone
            with contextlib.suppress(OSError):
                group.directory.rmdir()
                break
            time.sleep(0.1)
