"""The formats of exported networks, and what their files have in common; needs nothing that is not installed anyway."""

from __future__ import annotations

import importlib.util
import re
from typing import Literal, get_args

from limpq_hub.errors import OutputError, quoted

Format = Literal["openvino", "onnxruntime", "qonnx"]
FORMATS: tuple[Format, ...] = get_args(Format)
# Names of what a file takes and returns.
INPUT, OUTPUT = "image", "logits"
# A node that brings the input of a layer onto its grid; a number follows where a layer runs several times.
_QUANTIZED_INPUT = re.compile(r"(.*)/input/(?:DequantizeLinear|Quant)(?:_[0-9]+)?")


def check_format(file_format: str, needing: str | None = None) -> None:
    """Raise `OutputError` unless there is such a format, and what it needs is installed.

    Args:
        needing: what a message says needs it; the argument `format` if None.
    """
    if file_format not in FORMATS:
        raise OutputError(f"format={quoted(file_format)} is not known: use {', '.join(FORMATS)}")
    missing = [package for package in ("onnx", "ml_dtypes", file_format) if importlib.util.find_spec(package) is None]
    if missing:
        *others, last = missing
        listed = f"{', '.join(others)} and {last}" if others else last
        needs, are = needing or f'format="{file_format}"', "is" if len(missing) == 1 else "are"
        raise OutputError(f'{needs} needs {listed}, which {are} not installed: pip install "limpq-hub[export]"')


def layer_of_input(node: str) -> str | None:
    """Return the layer whose quantized input a node of this name puts out, or None if it is another node."""
    matched = _QUANTIZED_INPUT.fullmatch(node)
    return matched[1] if matched else None
