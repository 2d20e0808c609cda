"""`MacCounter`: the multiply-accumulates of every operation that a forward pass dispatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counted(Protocol):
    """An object whose `macs` multiply-accumulates are added to."""

    macs: int


class MacCounter(TorchDispatchMode):
    """Counts by the formulas of PyTorch's flop counter, two floating-point operations for a multiply-accumulate.

    Args:
        unclaimed: called with the name and the tensors of an operation that runs outside of `counting_in`; returns the
            object whose `macs` it is added to.
    """

    def __init__(self, unclaimed: Callable[[str, list[Tensor]], Counted]) -> None:
        super().__init__()
        self._unclaimed = unclaimed
        self._target: Counted | None = None

    @contextmanager
    def counting_in(self, target: Counted) -> Iterator[None]:
        """Add what is dispatched inside to `target.macs`."""
        self._target = target
        try:
            yield
        finally:
            self._target = None

    def __torch_dispatch__(
        self, operation: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        output = operation(*args, **options)
        packet = operation._overloadpacket
        if packet not in flop_registry:
            return output
        macs = flop_registry[packet](*args, **options, out_val=output) // 2
        target = self._target or self._unclaimed(packet.__name__, [x for x in args if isinstance(x, Tensor)])
        target.macs += macs
        return output


def parameter_behind(x: Tensor) -> nn.Parameter | None:
    """Return the parameter that a tensor is, or is a view of."""
    for tensor in (x, x._base):
        if isinstance(tensor, nn.Parameter):
            return tensor
    return None
