"""`NodeWriter`: adds nodes and constants for one call of a function at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from limpq_hub.deploy.graph_builder import GraphBuilder
from limpq_hub.deploy.recorded_call import Call, Value
from limpq_hub.deploy.refusals import function_name, refusal
from limpq_hub.errors import UnsupportedLayerError


class NodeWriter:
    """Adds nodes that are named for the module that calls.

    Args:
        builder: where the nodes go.
        names: name in the graph of each value that is written, by the name of the value; grows.
        batch: how many images the graph takes at once; None for any number.

    Attributes:
        call: the current one.
    """

    call: Call

    def __init__(self, builder: GraphBuilder, names: dict[str, str], batch: int | None = None) -> None:
        self._builder = builder
        self._names = names
        self._batch = batch

    def refused(self, why: str) -> UnsupportedLayerError:
        """Return the error for the current call."""
        return refusal(self.call.module, f"calls {function_name(self.call.function)}, {why}")

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node named for the module that calls."""
        return self._builder.add(operator, inputs, f"{self.call.module or 'network'}/{operator}", **attributes)

    def number(self, value: Any, dtype: type = np.float32) -> str:
        """Return the name of a constant."""
        return self._builder.constant(np.asarray(value, dtype), f"{self.call.module or 'network'}/constant")

    def name_of(self, x: Value | Tensor | float) -> str:
        """Return the name of a value, or of a constant that a parameter or a number becomes."""
        if isinstance(x, Value):
            return self._names[x.name]
        return self.number(x.detach().numpy() if isinstance(x, Tensor) else x)
