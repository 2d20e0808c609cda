"""`MacCounter`: the multiply-accumulates of every operation that a forward pass dispatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counted(Protocol):
    """An object that multiply-accumulates are added to.

    Attributes:
        macs: those of PyTorch's formulas.
        macs_limpq: as the published script counts them.
    """

    macs: int
    macs_limpq: int


class MacCounter(TorchDispatchMode):
    """Counts by the formulas of PyTorch's flop counter, two floating-point operations for a multiply-accumulate.

    Args:
        unclaimed: called with the name and the tensors of an operation that runs outside of `counting_in`; returns the
            object that it is added to, by both counts: the published script has no rule of its own for it.
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
        target = self._target
        if target is None:
            target = self._unclaimed(packet.__name__, [x for x in args if isinstance(x, Tensor)])
            target.macs_limpq += macs
        target.macs += macs
        return output


def parameter_behind(x: Tensor) -> nn.Parameter | None:
    """Return the parameter that a tensor is, or is a view of."""
    for tensor in (x, x._base):
        if isinstance(tensor, nn.Parameter):
            return tensor
    return None
