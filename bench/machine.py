"""What a benchmark writes of the machine it ran on."""

import os
import re
from pathlib import Path


def processor():
    """The processor's name, and its family and model, which tell generations with one name apart."""
    fields = dict(re.findall(r"^(.+?)\s*: (.*)$", Path("/proc/cpuinfo").read_text().split("\n\n")[0], re.MULTILINE))
    family, model = fields.get("cpu family"), fields.get("model")
    return fields.get("model name", "unknown") + (f", family {family} model {model}" if family else "")


def machine():
    return {"processor": processor(), "cpus": os.cpu_count(), "load": os.getloadavg()}
