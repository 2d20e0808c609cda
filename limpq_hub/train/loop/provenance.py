"""How a result came about: command, seed, device, versions, time, and the sha256 of the weights it started from."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from accelerate import Accelerator

from limpq_hub.plan.input_file import open_regular
from limpq_hub.train.settings import Invocation
from limpq_hub.train.weights.float_weights import local_file
from limpq_hub.version import __version__
from limpq_hub.zoo.card_commands import without_folders


def provenance(accelerator: Accelerator, invocation: Invocation, seconds: float | None) -> dict[str, object]:
    """Return how a result came about, as JSON holds it; of paths in the command their last component.

    The result is published, and what a person calls their folders is not: `options.json` keeps the whole paths.

    Args:
        seconds: time it took, or None where only that of its last part is known.
    """
    device = device_name(accelerator)
    return {
        "command": without_folders(invocation.command),
        "seed": invocation.options["seed"],
        "device": f"{accelerator.num_processes} x {device}, {torch.get_num_threads()} threads",
        **({} if seconds is None else {"seconds": round(seconds, 1)}),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
        **weights_record(invocation),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that every figure depends on."""
    return {"limpq-hub": __version__, "torch": torch.__version__, "timm": timm.__version__}


def device_name(accelerator: Accelerator) -> str:
    """Return what this process computes on."""
    return torch.cuda.get_device_name() if accelerator.device.type == "cuda" else f"{platform.machine()} CPU"


def weights_record(invocation: Invocation) -> dict[str, str]:
    """Return the sha256 of each file of weights that the options name, by itself or by its folder."""
    return {f"{name}_sha256": _sha256(path) for name, path in _files_of_weights(invocation)}


def weight_configs_record(invocation: Invocation) -> dict[str, str]:
    """Return the sha256 of the `config.json` beside each of these files: it says which network they are of."""
    beside = ((name, path.with_name("config.json")) for name, path in _files_of_weights(invocation))
    return {f"{name}_config_sha256": _sha256(config) for name, config in beside if os.path.isfile(config)}


def _files_of_weights(invocation: Invocation) -> Iterator[tuple[str, Path]]:
    """Yield the option and the file of each weights that are on this machine."""
    for name in ("weights", "teacher"):
        named = invocation.options.get(name)
        path = local_file(named) if isinstance(named, str) else None
        if path and os.path.isfile(path):
            yield name, path


def _sha256(path: Path) -> str:
    """Return the sha256 of a file that may be larger than the memory."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(2**24):
            digest.update(block)
    return digest.hexdigest()
