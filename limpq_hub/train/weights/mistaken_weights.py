"""A file that was given as the weights of a float network and is none: what it is, and what to give instead."""

from __future__ import annotations

import re
from collections.abc import Collection

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.jsonfile import parse_json
from limpq_hub.plan.mistaken_file import mistaken_for

_ENTRY = "give the entry, as local-dir:ENTRY, for its float network"
# What is in the names of the tensors, and of what they are then; the first that fits.
_KINDS = (
    (
        r"optimizer\.\d+\..+",
        "this is the saved state of a training; give what the training left in its --output when it had ended: "
        "model.safetensors of pretrain, or the folder as local-dir:FOLDER",
    ),
    (
        r".+\.(weight_coded|weight_packed|input_scale)",
        "this is a fine-tuned policy, whose weights are integers, with its step sizes; give the entry that it was "
        "tuned from, as local-dir:ENTRY, for its float network (validate measures the policy, as --checkpoint FOLDER)",
    ),
    (
        r".+\.(weight|activation)_quantizer\.step",
        f"these are weights of a quantized network, with the steps of its quantizers; {_ENTRY}",
    ),
    (r"\d+\..+\.running_(mean|var)", f"these are the BatchNorm statistics of the policies of an entry; {_ENTRY}"),
)


def mistaken_tensors(names: Collection[str]) -> str | None:
    """Return what a safetensors file of this library is, and what to give; None where it may be a float network.

    Args:
        names: of its tensors.
    """
    for pattern, what in _KINDS:
        if any(re.fullmatch(pattern, name) for name in names):
            return what
    return None


def mistaken_json(content: bytes) -> str | None:
    """Return what a JSON file of this library is, and what it is for; None of any other content."""
    if not content.lstrip().startswith(b"{"):
        return None
    try:
        return mistaken_for("weights", parse_json(content, "it"))
    except ArtifactFormatError:
        return None
