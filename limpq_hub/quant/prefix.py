"""The prefix of a network, the modules that finish before a given one starts: run once, its outputs reused later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limpq_hub.quant.modes import in_eval_mode


@dataclass(frozen=True)
class Prefix:
    """The modules that run before a given module starts, in the order of execution; empty if it never starts.

    Attributes:
        finished: modules that have finished by then, run once and return a tensor; not those inside of another one.
        started: all modules that have started by then.
    """

    finished: tuple[str, ...]
    started: tuple[str, ...]


@dataclass(frozen=True)
class PrefixOutput:
    """The output of a module of the prefix.

    Attributes:
        computed: with the graph of the prefix behind it.
        shared: the same values as a leaf; the gradients of all passes add up in it.
    """

    computed: Tensor
    shared: Tensor


@torch.no_grad()
def prefix_of(network: nn.Module, example_input: Tensor, starts: Callable[[nn.Module], bool]) -> Prefix:
    """Return what runs before the first module of which `starts` is true.

    Args:
        network: run once in eval mode.
        example_input: one image or more, [batch, 3, height, width].
    """
    finished: list[nn.Module] = []
    started: dict[nn.Module, None] = {}
    calls: Counter[nn.Module] = Counter()
    reached = False

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Forward pre-hook: count the call, and note the module if no starting module has run yet."""
        nonlocal reached
        calls[module] += 1
        reached = reached or starts(module)
        if not reached:
            started[module] = None

    def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        """Forward hook: note a module that returned a tensor before a starting module has run."""
        if not reached and isinstance(output, Tensor):
            finished.append(module)

    handles = [module.register_forward_pre_hook(enter) for module in network.modules()]
    handles += [module.register_forward_hook(leave) for module in network.modules()]
    with in_eval_mode(network):
        try:
            network(example_input[:1])
        finally:
            for handle in handles:
                handle.remove()
    if not reached:
        return Prefix((), ())
    names = {module: name for name, module in network.named_modules()}
    once = [module for module in finished if calls[module] == 1]
    inner = {child for module in once for child in module.modules() if child is not module}
    finished_names = tuple(names[module] for module in once if module not in inner)
    return Prefix(finished_names, tuple(names[module] for module in started))


@contextmanager
def computing_once(module: nn.Module, outputs: list[PrefixOutput]) -> Iterator[None]:
    """Let a module compute at its first call, cut the graph behind its output, and return the same at later calls.

    Args:
        outputs: where the output is added.
    """
    # A module may have a `forward` of its own in front of that of its class: it is put back at the end.
    compute, own_forward = module.forward, vars(module).get("forward")
    output: PrefixOutput | None = None

    def forward(*inputs: Any, **options: Any) -> Tensor:
        """Compute the output at the first call, and return its detached copy at every call."""
        nonlocal output
        if output is None:
            computed = compute(*inputs, **options)
            output = PrefixOutput(computed, computed.detach().requires_grad_(computed.requires_grad))
            outputs.append(output)
        return output.shared

    module.forward = forward
    try:
        yield
    finally:
        if own_forward is None:
            del module.forward
        else:
            module.forward = own_forward


@contextmanager
def out_of_place(module: nn.Module) -> Iterator[None]:
    """Let a module with the flag `inplace` write into a new tensor; others stay as they are.

    An operation in place would write over the output that later passes are given.
    """
    flagged: Any = module
    in_place = getattr(module, "inplace", False)
    if in_place:
        flagged.inplace = False
    try:
        yield
    finally:
        if in_place:
            flagged.inplace = True
