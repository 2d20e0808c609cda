"""The part of a network before its first switching layer, run once for all passes of a joint step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limpq_hub.quant.modes import modes_restored
from limpq_hub.quant.products import Routed
from limpq_hub.quant.quantized import Quantized


@dataclass(frozen=True)
class _StemOutput:
    """The output of a stem module in one step.

    Attributes:
        computed: with the graph of the stem behind it.
        shared: the same values as a leaf; the gradients of all passes add up in it.
    """

    computed: Tensor
    shared: Tensor


class SharedStem:
    """Runs the stem of a supernet in the first pass of a step, and gives its results again in the others.

    The stem is every module that is done before the first layer with several bit-widths starts: what it computes
    does not depend on the policy. Its gradients are those of all passes together, and its batch normalizations move
    their averages as far as all passes would.

    During a step the stem modules have a `forward` of their own in place of that of their class: a hook cannot keep a
    module from computing, and a wrapper in its place would rename the layers that `set_policy_` looks up between the
    passes.

    Args:
        supernet: the network of the passes; its modules are looked up by name in each step, so they may be replaced.
        example_input: one image or more, [batch, 3, height, width].

    Attributes:
        names: the modules that run once, in the order of execution.
    """

    def __init__(self, supernet: nn.Module, example_input: Tensor) -> None:
        self.supernet = supernet
        self.names, self._started = _modules_before_the_first_switch(supernet, example_input)

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that run once, in the order of execution."""
        return [self.supernet.get_submodule(name) for name in self.names]

    @contextmanager
    def shared_by(self, passes: int) -> Iterator[None]:
        """Compute the stem once for the `passes` forward and backward passes of one batch inside."""
        modules = self.modules
        outputs: list[_StemOutput] = []
        with ExitStack() as changes:
            for norm in _moving_averages(modules):
                changes.enter_context(_averaging_as_often_as(norm, passes))
            # An operation in place would write over the output that the next pass is given.
            for module in map(self.supernet.get_submodule, self._started):
                if getattr(module, "inplace", False):
                    changes.enter_context(_out_of_place(module))
            for module in modules:
                changes.enter_context(_computing_once(module, outputs))
            yield
            for output in reversed(outputs):
                if output.shared.grad is not None:
                    output.computed.backward(output.shared.grad)


@contextmanager
def _computing_once(module: nn.Module, outputs: list[_StemOutput]) -> Iterator[None]:
    """Let a module compute at its first call, cut the graph behind its output, and return the same at later calls.

    Args:
        outputs: where the output is added.
    """
    compute, of_instance = module.forward, vars(module).get("forward")
    output: _StemOutput | None = None

    def forward(*inputs: Any, **options: Any) -> Tensor:
        nonlocal output
        if output is None:
            computed = compute(*inputs, **options)
            output = _StemOutput(computed, computed.detach().requires_grad_(computed.requires_grad))
            outputs.append(output)
        return output.shared

    module.forward = forward
    try:
        yield
    finally:
        if of_instance is None:
            del module.forward
        else:
            module.forward = of_instance


@contextmanager
def _averaging_as_often_as(norm: nn.BatchNorm2d, passes: int) -> Iterator[None]:
    """Let one pass move the averages of a batch normalization as far as so many passes over the same batch."""
    momentum = norm.momentum
    if momentum is not None:
        norm.momentum = 1 - (1 - momentum) ** passes
    try:
        yield
    finally:
        norm.momentum = momentum
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(passes - 1)


@contextmanager
def _out_of_place(module: Any) -> Iterator[None]:
    """Let a module with the flag `inplace` write into a new tensor."""
    module.inplace = False
    try:
        yield
    finally:
        module.inplace = True


def _moving_averages(modules: list[nn.Module]) -> list[nn.BatchNorm2d]:
    """Return the batch normalizations in `modules` that move their averages by a momentum; not frozen ones."""
    inner = [inner for module in modules for inner in module.modules()]
    return [module for module in inner if isinstance(module, nn.BatchNorm2d) and module.training and module.momentum]


@torch.no_grad()
def _modules_before_the_first_switch(supernet: nn.Module, example_input: Tensor) -> tuple[list[str], list[str]]:
    """Return the names of two lists of modules in the order of execution.

    First the largest ones that run once, return a tensor and are done before the first switching layer; then all that
    have started by then.
    """
    finished: list[nn.Module] = []
    started: dict[nn.Module, None] = {}
    calls: Counter[nn.Module] = Counter()
    switched = False

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal switched
        calls[module] += 1
        switched = switched or _switches(module)
        if not switched:
            started[module] = None

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
    names = {module: name for name, module in supernet.named_modules()}
    once = [module for module in finished if calls[module] == 1]
    inner = {child for module in once for child in module.modules() if child is not module}
    return [names[module] for module in once if module not in inner], [names[module] for module in started]


def _switches(module: nn.Module) -> bool:
    """Return whether what a module computes depends on the policy, apart from the modules that it calls."""
    if isinstance(module, Routed):
        return True
    return isinstance(module, Quantized) and len(module.weight_quantizer.candidates) > 1
