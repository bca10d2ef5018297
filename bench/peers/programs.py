"""One run of each program that is compared, as a child process."""

import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


class RunFailed(Exception):
    pass


def cpu_seconds():
    fields = [int(f) for f in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def disk_bytes(pid):
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["read_bytes"]), int(fields["write_bytes"])


def measure(command, env):
    """Runs it. Returns what the kernel knows of it: peak RSS, bytes on disk, and the cores that others used meanwhile."""
    with tempfile.TemporaryFile("w+") as log:
        before, start, disk = cpu_seconds(), time.monotonic(), (0, 0)
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while True:
                try:
                    disk = disk_bytes(process.pid)
                except (OSError, ValueError):
                    pass
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid != 0:
                    break
                time.sleep(0.05)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        if process.returncode != 0:
            log.seek(0)
            last = [line for line in log.read().splitlines() if line.strip()][-1:]
            raise RunFailed(f"{' '.join(map(str, command))} ended with {process.returncode}: {last[0] if last else 'it said nothing'}")
    others = (cpu_seconds() - before - usage.ru_utime - usage.ru_stime) / wall
    # ru_maxrss is that of the process or of a child that it has waited for, whichever is larger.
    return {"command": " ".join(map(str, command)), "peak_rss_bytes": usage.ru_maxrss * 1024, "kernel_disk_bytes": disk,
            "others": others, "wall_seconds": wall}  # fmt: skip


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


class Programs:
    """The programs by kind; `run(kind)` gives the summary that the program wrote with what the kernel knows of it."""

    def __init__(self, options):
        self.o = options
        self.job = ["--data", options.data, "--model", options.model, "--batch-size", str(options.batch_size), "--sequence-length",
                    str(options.sequence_length), "--seed", str(options.seed)]  # fmt: skip

    def _run(self, kind, command, steps, env):
        with tempfile.NamedTemporaryFile(suffix=".json") as summary:
            measured = measure([*command, *self.job, "--steps", str(steps), "--summary", summary.name], env)
            return json.loads(Path(summary.name).read_text()) | {"kind": kind} | measured

    def _peer(self, kind, script, *arguments):
        env = environment.variables(self.o.venv) | {"MASTER_PORT": free_port()}
        return self._run(kind, [str(self.o.venv / "bin/python"), str(HERE / script), *arguments], self.o.steps, env)

    def _deepspeed_nvme(self, kind, offload, *arguments):
        with tempfile.TemporaryDirectory(prefix="peers_", dir=self.o.spill_dir) as folder:
            return self._peer(kind, "deepspeed_train.py", "--offload", offload, "--nvme-path", folder, *arguments)

    def deepspeed_nvme(self):
        return self._deepspeed_nvme("deepspeed_nvme", "nvme")

    def deepspeed_nvme_pipelined(self):
        return self._deepspeed_nvme("deepspeed_nvme_pipelined", "nvme", "--pipeline")

    def deepspeed_nvme_lean(self):
        return self._deepspeed_nvme("deepspeed_nvme_lean", "nvme_lean")

    def deepspeed_cpu(self):
        return self._peer("deepspeed_cpu", "deepspeed_train.py", "--offload", "cpu")

    def torch(self):
        return self._peer("torch", "torch_train.py")

    def ours(self, kind, budget, steps):
        command = [str(self.o.program), "train", "--memory-budget", str(budget), "--spill-dir", self.o.spill_dir]
        return self._run(kind, command, steps, dict(os.environ))
