"""The part of a network before its first switching layer, run once for all passes of a joint step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from limpq_hub.quant.prefix import PrefixOutput, computing_once, prefix_of
from limpq_hub.quant.products import Routed
from limpq_hub.quant.quantized import Quantized


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
        self.names = prefix_of(supernet, example_input, _switches)

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that run once, in the order of execution."""
        return [self.supernet.get_submodule(name) for name in self.names]

    @contextmanager
    def shared_by(self, passes: int) -> Iterator[None]:
        """Compute the stem once for the `passes` forward and backward passes of one batch inside."""
        modules = self.modules
        outputs: list[PrefixOutput] = []
        with ExitStack() as changes:
            for norm in _moving_averages(modules):
                changes.enter_context(_averaging_as_often_as(norm, passes))
            for module in modules:
                changes.enter_context(computing_once(module, outputs))
            yield
            for output in reversed(outputs):
                if output.shared.grad is not None:
                    output.computed.backward(output.shared.grad)


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


def _moving_averages(modules: list[nn.Module]) -> list[nn.BatchNorm2d]:
    """Return the batch normalizations in `modules` that move their averages by a momentum; not frozen ones."""
    inner = [inner for module in modules for inner in module.modules()]
    return [module for module in inner if isinstance(module, nn.BatchNorm2d) and module.training and module.momentum]


def _switches(module: nn.Module) -> bool:
    """Return whether what a module computes depends on the policy, apart from the modules that it calls."""
    if isinstance(module, Routed):
        return True
    return isinstance(module, Quantized) and len(module.weight_quantizer.candidates) > 1
