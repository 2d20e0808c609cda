"""The seal of a folder: the bytes of its `config.json`, which hold a sha256 of their own content. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from limpq_hub.errors import (
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactVersionError,
    NotQuantizedError,
    quoted,
)
from limpq_hub.plan.jsonfile import parse_json

# Format 1 knew neither products of activations nor zero points, nor a weight step for each channel; format 2 neither
# arguments of the network nor how pictures are cropped, without which it would build and feed another one; format 3 no
# weights in fewer bytes than their bits; format 4 had those of checkpoints alone, not of an entry's own networks;
# format 5 no supernet that is told by how far it moved from the float network.
FORMAT = 6
# How the tensors in half precision are coded, of an entry's networks.
HALF_CODING = "half_coding"
BYTE_PLANES, MOVED_PLANES = "byte-planes", "moved-planes"
WEIGHT_CODING = "weight_coding"
_SINCE_FORMAT_3 = ("model_args", "crop_mode")
_READ_FORMATS = range(1, FORMAT + 1)
_SEAL = "config_sha256"
_PUBLISHING = (
    "; a fine-tuned checkpoint is used as a policy of the entry that it came from: "
    "python -m limpq_hub.train.publish --joint ENTRY --checkpoint NAME=FOLDER --output out/my-entry"
)


def format_of(content: Mapping[str, Any]) -> int:
    """Return the lowest format that can say what a `config.json` says: versions before this one read what they can."""
    if HALF_CODING in content:
        return 5 if content[HALF_CODING] == BYTE_PLANES else FORMAT
    if WEIGHT_CODING in content:
        return 4
    return 3 if any(key in content for key in _SINCE_FORMAT_3) else 2


def sealed(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a `config.json`: its content, and last the sha256 of it.

    Args:
        content: with "format" and "kind", without the sha256.
    """
    return _canonical({**content, _SEAL: _digest(content)})


def unsealed(data: bytes, label: str, kind: str, advice: str) -> dict[str, Any]:
    """Return the content of a `config.json`, verified, without its sha256.

    Args:
        label: what to call the file in an error.
        kind: "entry" or "checkpoint".
        advice: what an error says to do.

    Raises:
        ArtifactFormatError: the file is of another kind or format, or not sealed.
        NotQuantizedError: the file is timm's own.
        ArtifactIntegrityError: it is no JSON, or was changed.
    """
    try:
        content = parse_json(data, label)
    except ArtifactFormatError as error:
        raise ArtifactIntegrityError(f"{error}; {advice}") from None
    _check_format(content, label, advice)
    seal = content.pop(_SEAL, None)
    if seal != _digest(content) or data != _canonical({**content, _SEAL: seal}):
        raise ArtifactIntegrityError(f"{label} was changed after it was written; {advice}")
    if content["kind"] != kind:
        wrong = f"{label}: this is the folder of a {quoted(content['kind'])}, where one of kind {kind!r} belongs"
        raise ArtifactFormatError(wrong + (_PUBLISHING if (content["kind"], kind) == ("checkpoint", "entry") else ""))
    return content


def _check_format(content: Any, label: str, advice: str) -> None:
    """Raise `ArtifactFormatError` unless a `config.json` is of our format."""
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is int and version in _READ_FORMATS and "kind" in content:
        return
    architecture = content.get("architecture") if isinstance(content, dict) and "format" not in content else None
    if isinstance(architecture, str):
        raise NotQuantizedError(
            f"{label}: this is timm's, of a float network {quoted(architecture)} and no entry: learn its importance "
            "with accelerate launch -m limpq_hub.train.indicators --model ARCHITECTURE --weights THIS --data FOLDER"
        )
    wrong = f"{label}: format {quoted(version)} is not one of the formats 1 to {FORMAT} that this version reads"
    if type(version) is not int or "kind" not in content:
        raise ArtifactFormatError(f"{wrong}; is it an artifact of limpq-hub?")
    raise ArtifactVersionError(f"{wrong}; upgrade limpq-hub, or {advice}")


def _canonical(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()
