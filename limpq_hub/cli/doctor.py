"""The command to run where something does not work: doctor, what is installed, and what of it works here."""

from __future__ import annotations

import argparse
import platform
import shutil
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from limpq_hub.cli.output import print_facts, print_json
from limpq_hub.errors import LimpqError, quoted
from limpq_hub.plan.quantities import format_size
from limpq_hub.train.extras import EXTRAS, installing, missing_modules
from limpq_hub.train.usable_cores import usable_cores
from limpq_hub.version import __version__
from limpq_hub.zoo.hub_address import address_fault

_PACKAGES = ("torch", "torchvision", "timm", "huggingface_hub", "pulp", "highspy", "numpy", "pillow", "safetensors")

# What a package raises that is broken, or of another version than it should be, when it is imported or called.
_BROKEN = (
    ArithmeticError, AttributeError, ImportError, LookupError, LimpqError, MemoryError, NameError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip


def add_doctor_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command of this module."""
    command("doctor", _doctor, "Say what is installed, which devices and extras are here, and if the Hub answers.")


def _doctor(options: argparse.Namespace) -> None:
    findings = {
        "limpq-hub": f"{__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        **{package: _told(partial(_version, package)) for package in _PACKAGES},
        "devices": _told(_devices),
        "solver": _told(_solver),
        "cache": _told(_cache),
        "Hub": _told(_hub),
        **{f"extra {extra!r}": _told(partial(_extra, extra)) for extra in EXTRAS},
    }
    if options.json:
        print_json(findings)
        return
    print_facts("What is here", findings)


def _told(finding: Callable[[], str]) -> str:
    """Return what was found, or in one line why nothing could be: what is broken is what is looked for."""
    try:
        return finding()
    except _BROKEN as error:
        address = address_fault() if isinstance(error, ValueError) else None
        return f"does not work: {address or _in_words(error)}"


def _in_words(error: Exception) -> str:
    """Return an error of another package by its class, in one line; one of ours says enough."""
    return str(error) if isinstance(error, LimpqError) else f"{type(error).__name__}: {quoted(str(error))}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing; pip install limpq-hub brings it"


def _devices() -> str:
    import torch

    devices = [f"CPU with {_counted(usable_cores(), 'core')}, {_counted(torch.get_num_threads(), 'thread')} of torch"]
    devices += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("MPS (Apple)")
    return "; ".join(devices)


def _counted(number: int | None, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _solver() -> str:
    """Search the bundled network, and say whether the answer is proven."""
    from limpq_hub.zoo.planning import search

    plan = search("resnet18", bitops="3G")
    return f"{'proves an optimum' if plan.optimal else 'answers without a proof'} ({plan.bitops:,} BitOps)"


def _cache() -> str:
    from limpq_hub.zoo.hub.reachable import cache_folder, nearest_that_exists

    folder, writable = cache_folder()
    nearest = nearest_that_exists(folder)
    if not nearest.is_dir():
        return f"{folder} cannot be a folder: {nearest} is a file; set HF_HOME to a folder that can be written"
    if not writable:
        return f"{folder} cannot be written; set HF_HOME to a folder that can"
    return f"{folder}, {format_size(shutil.disk_usage(nearest).free)} free"


def _hub() -> str:
    from limpq_hub.zoo.hub.reachable import answers

    return answers()


def _extra(extra: str) -> str:
    missing = missing_modules(extra)
    return f"{', '.join(missing)} missing; {installing(extra)}" if missing else "present"
