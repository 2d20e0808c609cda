"""Which batch normalizations take what a convolution gives, and nobody else does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from limpq_hub.quant.layers import QuantConv2d, QuantConv2dSame, QuantLayer
from limpq_hub.quant.modes import in_eval_mode
from limpq_hub.quant.module_calls import watched_module_calls

# What they return is a convolution and nothing else, so that a normalization can be in its weight. Other classes may do
# more with it.
_CONVOLUTIONS = (QuantConv2d, QuantConv2dSame)


@torch.no_grad()
def normalized_convolutions(
    network: nn.Module, input_shape: tuple[int, ...], norms: Collection[type]
) -> dict[QuantLayer, nn.BatchNorm2d]:
    """Return the batch normalization behind each quantized convolution, where the two can be computed as one.

    Both run once in a forward pass, and the normalization, which has running statistics, is the only one that takes
    what the convolution returns.

    Args:
        network: it runs once, in eval mode, on an image of zeros.
        input_shape: (channels, height, width) of one image.
        norms: classes of batch normalizations; others are left out.
    """
    first = next(network.parameters())
    image = torch.zeros(1, *input_shape, device=first.device, dtype=first.dtype)
    watched = _Consumers()
    with in_eval_mode(network), watched_module_calls(watched.enter, watched.leave), watched:
        returned = network(image)
    pairs, returned_ids = {}, {id(x) for x in _tensors(returned)}
    for key, (_, convolution) in watched.outputs.items():
        takers = watched.takers[key]
        norm = next(iter(takers)) if len(takers) == 1 else None
        once = watched.calls[convolution] == 1 and norm is not None and watched.calls[norm] == 1
        if once and type(norm) in norms and key not in returned_ids:
            batch_norm = cast(nn.BatchNorm2d, norm)
            if batch_norm.track_running_stats and batch_norm.running_mean is not None:
                pairs[convolution] = batch_norm
    return pairs


class _Consumers(TorchDispatchMode):
    """Notes which module takes what the quantized convolutions of a network return.

    It sees the operations that are computed, whoever calls them: `x[:, 0] = 0.`, `torch.vmap` and scripts as well.

    Attributes:
        outputs: what each convolution returned, held so that its identity is not given to another, and the convolution.
        takers: by the same key, the modules that ran innermost at the operations that took it.
        calls: of each module.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[int, tuple[Tensor, QuantLayer]] = {}
        self.takers: dict[int, set[nn.Module]] = {}
        self.calls: Counter[nn.Module] = Counter()
        self._running: list[nn.Module] = []

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note that a module starts."""
        self._running.append(module)
        self.calls[module] += 1

    def leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Note that a module ends, and what it returned if it is a convolution."""
        self._running.pop()
        if type(module) in _CONVOLUTIONS:
            self.outputs[id(output)] = (output, cast(QuantLayer, module))
            self.takers[id(output)] = set()

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for key in {id(x) for x in _tensors((args, kwargs))} & self.takers.keys():
            self.takers[key].add(self._running[-1])
        return operation(*args, **(kwargs or {}))


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested tuples, lists and dictionaries."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, tuple | list | dict):
        for item in content.values() if isinstance(content, dict) else content:
            yield from _tensors(item)
