"""How a result came about: command, seed, device, versions, time, and the sha256 of the weights it started from."""

from __future__ import annotations

import hashlib
import platform
import time
from pathlib import Path

import timm
import torch
from accelerate import Accelerator

from limpq_hub.train.settings import Invocation
from limpq_hub.version import __version__


def provenance(accelerator: Accelerator, invocation: Invocation, seconds: float | None) -> dict[str, object]:
    """Return how a result came about, as JSON holds it.

    Args:
        seconds: time it took, or None where only that of its last part is known.
    """
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else f"{platform.machine()} CPU"
    return {
        "command": invocation.command,
        "seed": invocation.options["seed"],
        "device": f"{accelerator.num_processes} x {device}, {torch.get_num_threads()} threads",
        **({} if seconds is None else {"seconds": round(seconds, 1)}),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {"limpq-hub": __version__, "torch": torch.__version__, "timm": timm.__version__},
        **weights_record(invocation),
    }


def weights_record(invocation: Invocation) -> dict[str, str]:
    """Return the sha256 of each file of weights that the options name."""
    files = {name: invocation.options.get(name) for name in ("weights", "teacher")}
    return {
        f"{name}_sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for name, file in files.items()
        if isinstance(file, str) and Path(file).is_file()
    }
