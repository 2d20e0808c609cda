"""Quantized modules in a graph that torch.fx traces, as torchvision's `create_feature_extractor` does.

Each is one node, a call of the module itself: what it computes depends on its input, its mode and its weights as they
are at the call, which a graph of its operations would not see.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.fx import Proxy


def is_traced(*values: object) -> bool:
    """Return whether one of the inputs of a module stands for a value in a graph that is being traced."""
    return any(isinstance(value, Proxy) for value in values)


def node_of(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Return what stands in the graph for the result of a module, called with inputs that `is_traced` is true of."""
    tracer: Any = next(value.tracer for value in (*args, *kwargs.values()) if isinstance(value, Proxy))
    return tracer.create_proxy("call_module", tracer.path_of_module(module), args, kwargs)


def is_recorded() -> bool:
    """Return whether what runs is recorded by `torch.compile`, `torch.export` or `torch.jit.trace`.

    A weight that is computed once and kept would be a constant there, or missing, by whether it was computed before.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
