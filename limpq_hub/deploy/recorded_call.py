"""`Call`: one call of a function in a forward pass, with the values that it takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limpq_hub.quant.quantizer import LsqQuantizer


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the image.

    Attributes:
        name: unlike that of any other.
        shape: with the batch dimension, which is 1 here.
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a function of torch, or of the quantizer of an input.

    Attributes:
        function: of torch; None of a quantizer.
        arguments, options: positional and by keyword; a `Value` where the run depends on the image, a tensor where a
            parameter or buffer is taken.
        output: what it returns.
        module: name of the module that calls.
        quantizer: the quantizer that it is a call of, or None.
    """

    function: Callable[..., Any] | None
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    output: Value
    module: str
    quantizer: LsqQuantizer | None = None

    @property
    def inputs(self) -> list[Value]:
        """The values that it takes, in the order of its arguments."""
        return list(leaves((self.arguments, tuple(self.options.values())), Value))

    def same_as(self, other: Call) -> bool:
        """Return whether another call is of the same function, with the same values and constants."""
        return (
            (self.function, self.output, self.module) == (other.function, other.output, other.module)
            and self.quantizer is other.quantizer
            and _same(self.arguments, other.arguments)
            and _same(dict(self.options), dict(other.options))
        )


def _same(content: Any, other: Any) -> bool:
    """Return whether nested tuples, lists and dictionaries hold the same; two NaN are the same."""
    if isinstance(content, Tensor) or isinstance(other, Tensor):
        return (
            isinstance(content, Tensor)
            and isinstance(other, Tensor)
            and (content.shape, content.dtype) == (other.shape, other.dtype)
            and torch.allclose(content, other, rtol=0, atol=0, equal_nan=True)
        )
    if isinstance(content, tuple | list) and isinstance(other, tuple | list):
        return len(content) == len(other) and all(map(_same, content, other))
    if isinstance(content, dict) and isinstance(other, dict):
        return content.keys() == other.keys() and all(_same(content[key], other[key]) for key in content)
    return bool(content == other) or (content != content and other != other)


def leaves(content: Any, kind: type) -> Iterator[Any]:
    """Yield every object of a class in nested tuples and lists."""
    if isinstance(content, tuple | list):
        for item in content:
            yield from leaves(item, kind)
    elif isinstance(content, kind):
        yield content
