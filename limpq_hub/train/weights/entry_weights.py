"""The float network of an entry of this library, as weights that a training starts from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactFormatError, TrainingError, quoted
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.zoo.catalog import find_entry, list_models
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_tensors import SUPERNET
from limpq_hub.zoo.float_file import FLOAT_FILE, GZIPPED_FLOAT_FILE
from limpq_hub.zoo.network import PREPARATION, NetworkSpec
from limpq_hub.zoo.timm_config import TimmConfig

_CONFIG, _LOCAL = "config.json", "local-dir:"


def local_entry(name: str, option: str = "--weights") -> Entry | None:
    """Return the entry on this machine whose float network a name of weights means, None where it means none.

    Args:
        name: "local-dir:FOLDER" of an entry, or the file of the float network inside of one.
        option: that it was typed for.

    Raises:
        TrainingError: it is a fine-tuned policy, or the joint weights, and no float network.
        ArtifactError: the entry is damaged.
    """
    path = Path(name.removeprefix(_LOCAL))
    folder = path if name.startswith(_LOCAL) else path.parent
    kind = kind_of(folder / _CONFIG)
    if name.startswith(_LOCAL) and kind == "checkpoint":
        raise TrainingError(
            f"{option} {quoted(name)}: this is a fine-tuned policy, whose weights are integers; give the entry that "
            "it was tuned from, as local-dir:ENTRY, for its float network"
        )
    if kind != "entry":
        return None
    if not name.startswith(_LOCAL) and path.name == SUPERNET:
        raise TrainingError(
            f"{option} {quoted(name)}: these are the joint weights of an entry, with the steps of its quantizers; for "
            f"its float network give {shell_command(option, f'{_LOCAL}{folder}')}"
        )
    is_float_file = path.name in (FLOAT_FILE, GZIPPED_FLOAT_FILE)
    return find_entry(f"{_LOCAL}{folder}") if name.startswith(_LOCAL) or is_float_file else None


def float_file_in(folder: Path) -> Path | None:
    """Return the file of the float network in the folder of an entry, None where there is no entry or no such file."""
    if kind_of(folder / _CONFIG) != "entry":
        return None
    return next((folder / file for file in (FLOAT_FILE, GZIPPED_FLOAT_FILE) if os.path.isfile(folder / file)), None)


def kind_of(config: Path) -> str | None:
    """Return "entry" or "checkpoint" by a `config.json`, None where it is missing or no such file of this library."""
    try:
        content: Any = read_json(config) if os.path.isfile(config) else None
    except ArtifactFormatError:  # whoever reads it says what is wrong
        return None
    ours = isinstance(content, dict) and "format" in content and content.get("kind") in ("entry", "checkpoint")
    return content["kind"] if ours else None


def network_config(entry: Entry) -> TimmConfig:
    """Return which network an entry is of, and how it takes pictures, as timm's `config.json` would say it.

    Raises:
        ArtifactFormatError: its `config.json` is malformed.
    """
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    preparation = {key: getattr(spec, key) for key in PREPARATION}
    return TimmConfig(spec.architecture, spec.num_classes, spec.input_size, preparation, dict(spec.model_args))


def timm_name_of(entry: Entry) -> str:
    """Return the timm name of the network of an entry, with the tag that its joint training was given.

    An earlier version recorded that in its command alone, and not at all where a recipe gave it.
    """
    architecture, provenance = str(entry.folder.config["architecture"]), entry.indicators.provenance
    typed = re.search(r"--model[ =](\S+)", str(provenance.get("command")))
    name = str(provenance.get("model") or (typed and typed[1]))
    return name if name.partition(".")[0] == architecture else architecture


def bundled_advice(name: str, option: str) -> str:
    """Return the end of an error that says what to type for the float network of a bundled entry; "" of other names."""
    if name not in list_models():
        return ""
    folder = Path("out", name)
    pull = shell_command("limpq", "pull", name, "--output", folder)
    return f"; it names a bundled entry: run {pull} and give {shell_command(option, f'{_LOCAL}{folder}')}"
