"""The virtual environment of the peers: what is compared with, installed from Debian and PyPI by name and version."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TORCH_VERSION = "2.11.0"  # scripts/setup's, so that all programs compute with the same kernels
DEEPSPEED_VERSION = "0.19.8"
# DeepSpeed compiles its Adam and its asynchronous I/O at first use.
PACKAGES = ("g++", "libaio-dev", "python3-dev", "python3-venv")
HERE = Path(__file__).resolve().parent


def say(text):
    print(f"peers: {text}", flush=True)


def call(command, **more):
    say("$ " + " ".join(map(str, command)))
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **more)


def missing_packages():
    def installed(package):
        state = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True)
        return state.stdout == "installed"

    return [package for package in PACKAGES if not installed(package)]


def ensure_packages():
    if shutil.which("dpkg-query") is None:
        say(f"this is not Debian: make sure that there are compiler, libaio and Python headers (Debian: {' '.join(PACKAGES)})")
        return
    missing = missing_packages()
    if not missing:
        say(f"packages: all there ({' '.join(PACKAGES)})")
        return
    root = [] if os.getuid() == 0 else ["sudo"]
    call([*root, "apt-get", "update", "-q"])
    call([*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q", "--no-install-recommends", *missing])


def answer(python, code):
    """What the interpreter prints for `code`, or None if it is not there or fails."""
    if not Path(python).exists():
        return None
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip() if done.returncode == 0 else None


def torch_of(python):
    return (answer(python, "import torch; print(torch.__version__)") or "").split("+")[0]


def ensure_venv(venv, torch_venv):
    """A venv with DeepSpeed. Torch is that of `torch_venv` if it has the right one (nothing is installed there), else its own."""
    python = venv / "bin/python"
    known = "import importlib.metadata as m; print(m.version('deepspeed'))"
    if answer(python, known) == DEEPSPEED_VERSION and torch_of(python) == TORCH_VERSION:
        say(f"{venv}: torch {TORCH_VERSION} and deepspeed {DEEPSPEED_VERSION} are there")
        return
    if not python.exists():
        call([sys.executable, "-m", "venv", venv])
    if torch_of(torch_venv / "bin/python") == TORCH_VERSION:
        packages = "import sysconfig; print(sysconfig.get_path('purelib'))"
        theirs, ours = (answer(v / "bin/python", packages) for v in (torch_venv, venv))
        say(f"torch {TORCH_VERSION}: that of {torch_venv}, through a .pth file")
        Path(ours, "torch_venv.pth").write_text(theirs + "\n")
    call([python, "-m", "pip", "install", "--disable-pip-version-check", f"torch=={TORCH_VERSION}", "numpy>=2,<3",
          f"deepspeed=={DEEPSPEED_VERSION}"])  # fmt: skip


def variables(venv):
    """The environment of the peers: DeepSpeed's compiled operators stay in the venv, and its ninja is found."""
    return os.environ | {
        "PATH": f"{venv / 'bin'}:{os.environ['PATH']}",
        "TORCH_EXTENSIONS_DIR": str(venv / "extensions"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def compile_operators(venv):
    """Compiles what DeepSpeed needs (minutes, once), so that no measured run does."""
    code = ("from deepspeed.ops.op_builder import AsyncIOBuilder, CPUAdamBuilder\n"
            "from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder\n"
            "for builder in (CPUAdamBuilder, AsyncIOBuilder, ShareMemCommBuilder): builder().load(verbose=False)")  # fmt: skip
    say("DeepSpeed's operators: compiling those that are not there yet")
    subprocess.run([venv / "bin/python", "-c", code], check=True, stdin=subprocess.DEVNULL, env=variables(venv) | {"DS_ACCELERATOR": "cpu"})


def versions(venv):
    code = "import importlib.metadata as m; print('\\n'.join(sorted(d.name + '==' + d.version for d in m.distributions())))"
    return (answer(venv / "bin/python", code) or "").splitlines()
