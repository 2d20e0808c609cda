"""The part of a network before its first switching layer, run once for all passes of a joint step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from limpq_hub.quant.calibrate import modes_restored
from limpq_hub.quant.layers import QuantLayer

Results = list[tuple[Tensor, Tensor]]


class SharedStem:
    """Runs the stem of a supernet in the first pass of a step, and gives its results again in the others.

    The stem is every module that is done before the first layer with several bit-widths starts: what it computes
    does not depend on the policy. Its gradients are those of all passes together, and its batch normalizations move
    their averages as far as all passes would.

    Args:
        supernet: the network of the passes.
        example_input: one image or more, [batch, 3, height, width].
    """

    def __init__(self, supernet: nn.Module, example_input: Tensor) -> None:
        self.modules, entered = _modules_before_the_first_switch(supernet, example_input)
        inner = [module for stem in self.modules for module in stem.modules()]
        self._norms = [module for module in inner if isinstance(module, nn.BatchNorm2d) and module.momentum]
        # What is given again must not be written into.
        self._in_place = [module for module in entered if getattr(module, "inplace", False)]

    @contextmanager
    def shared_by(self, passes: int) -> Iterator[None]:
        """Compute the stem once for the `passes` forward and backward passes of one batch inside."""
        results: Results = []
        handles = [module.register_forward_hook(_keep_result_in(results)) for module in self.modules]
        momenta = [norm.momentum for norm in self._norms]
        for norm, momentum in zip(self._norms, momenta, strict=True):
            norm.momentum = 1 - (1 - momentum) ** passes
        for module in self._in_place:
            module.inplace = False
        try:
            yield
            for computed, given in reversed(results):
                if given.grad is not None:
                    computed.backward(given.grad)
        finally:
            for handle in handles:
                handle.remove()
            for module in self.modules:
                vars(module).pop("forward", None)
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked += passes - 1
            for module in self._in_place:
                module.inplace = True


def _keep_result_in(results: Results) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
    """Return a forward hook that cuts the graph behind a module, and lets it give the same result ever after."""

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], computed: Tensor) -> Tensor | None:
        if "forward" in vars(module):
            return None
        given = computed.detach().requires_grad_(computed.requires_grad)
        results.append((computed, given))
        module.forward = lambda *inputs: given
        return given

    return keep


@torch.no_grad()
def _modules_before_the_first_switch(
    supernet: nn.Module, example_input: Tensor
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return two lists of modules in the order of execution.

    First the largest ones that run once, return a tensor and are done before the first switching layer; then all that
    have started by then.
    """
    finished: list[nn.Module] = []
    entered: dict[nn.Module, None] = {}
    calls: Counter[nn.Module] = Counter()
    switched = False

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal switched
        calls[module] += 1
        switched = switched or _switches(module)
        if not switched:
            entered[module] = None

    def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if not switched and isinstance(output, Tensor):
            finished.append(module)

    handles = [module.register_forward_pre_hook(enter) for module in supernet.modules()]
    handles += [module.register_forward_hook(leave) for module in supernet.modules()]
    with modes_restored(supernet):
        try:
            supernet.eval()(example_input[:1])
        finally:
            for handle in handles:
                handle.remove()
    stem = [module for module in finished if calls[module] == 1]
    inner = {child for module in stem for child in module.modules() if child is not module}
    return [module for module in stem if module not in inner], list(entered)


def _switches(module: nn.Module) -> bool:
    return isinstance(module, QuantLayer) and len(module.weight_quantizer.candidates) > 1
