"""What an error says of a network that cannot be exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limpq_hub.errors import UnsupportedLayerError


def refusal(module: str, what: str) -> UnsupportedLayerError:
    """Return the error for what a module does.

    Args:
        module: its name; empty for the network itself.
        what: such as "calls cos, which this writer does not know".
    """
    return UnsupportedLayerError(
        f"{module or 'the network'} {what}: convolutional networks of convolutions, batch normalizations, additions, "
        "pooling and activation functions can be exported"
    )


def function_name(function: Callable[..., Any] | None) -> str:
    """Return what a function of torch is called; a recorded call without one is of a quantizer."""
    return "a quantizer" if function is None else getattr(function, "__name__", str(function))
