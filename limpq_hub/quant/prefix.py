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

# Where torch keeps what a module registers.
_OF_TORCH = ("_parameters", "_buffers")


@dataclass(frozen=True)
class PrefixOutput:
    """The output of a module of the prefix.

    Attributes:
        computed: with the graph of the prefix behind it.
        shared: the same values as a leaf; the gradients of all passes add up in it.
    """

    computed: Tensor
    shared: Tensor


# Not in inference mode, whose tensors do not count what is written into them.
@torch.inference_mode(False)
@torch.no_grad()
def prefix_of(network: nn.Module, example_input: Tensor, starts: Callable[[nn.Module], bool]) -> tuple[str, ...]:
    """Return the modules that have finished before the first one of which `starts` is true starts.

    Args:
        network: run once in eval mode.
        example_input: one image or more, [batch, 3, height, width].

    Returns:
        Names in the order of execution, of modules that run once, as all inside of them, and return a tensor of their
        own, and not of those inside of another one; none if no such module starts. A module that has an effect beside
        its output runs each time: one that writes over its input, or returns it or a view of it, that takes a list, a
        dictionary or a set, or that keeps a tensor which is no parameter or buffer, alone or in a list or dictionary.
    """
    finished: list[nn.Module] = []
    taken: list[list[tuple[Tensor, int]] | None] = []
    calls: Counter[nn.Module] = Counter()
    reached = False

    def enter(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Forward pre-hook: count the call, note what it takes, and whether a starting module runs."""
        nonlocal reached
        calls[module] += 1
        given = (*inputs, *options.values())
        collects = any(isinstance(x, list | dict | set) for x in given)
        taken.append(None if collects else [(x, x._version) for x in given if isinstance(x, Tensor)])
        reached = reached or starts(module)

    def leave(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: object) -> None:
        """Forward hook: note a module that returned a tensor of its own before a starting module has run."""
        before = taken.pop()
        if reached or before is None or _keeps_tensors(module):
            return
        if isinstance(output, Tensor) and not _touches(output, before):
            finished.append(module)

    handles = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in network.modules()]
    handles += [module.register_forward_hook(leave, with_kwargs=True) for module in network.modules()]
    with in_eval_mode(network):
        try:
            network(example_input[:1].clone())
        finally:
            for handle in handles:
                handle.remove()
    if not reached:
        return ()
    names = {module: name for name, module in network.named_modules()}
    once = [module for module in finished if calls[module] == 1 and all(calls[part] <= 1 for part in module.modules())]
    inner = {child for module in once for child in module.modules() if child is not module}
    return tuple(names[module] for module in once if module not in inner)


def _keeps_tensors(module: nn.Module) -> bool:
    """Return whether a module, or one inside, holds tensors as plain attributes, which it may have set itself."""
    for part in module.modules():
        for name, value in vars(part).items():
            held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
            if name not in _OF_TORCH and any(isinstance(item, Tensor) for item in held):
                return True
    return False


def _touches(output: Tensor, taken: list[tuple[Tensor, int]]) -> bool:
    """Return whether a call wrote over what it took, by the versions from before, or its output is part of that."""
    own = output.untyped_storage().data_ptr()
    return any(x._version != version or x.untyped_storage().data_ptr() == own for x, version in taken)


@contextmanager
def computing_once(module: nn.Module, outputs: list[PrefixOutput]) -> Iterator[None]:
    """Let a module compute at its first call, cut the graph behind its output, and return the same at later calls.

    Each call returns a copy: what runs behind the module may write over it, as a ReLU in place or `x += shortcut` does.

    Args:
        outputs: where the output is added.
    """
    # A module may have a `forward` of its own in front of that of its class: it is put back at the end.
    compute, own_forward = module.forward, vars(module).get("forward")
    output: PrefixOutput | None = None

    def forward(*inputs: Any, **options: Any) -> Tensor:
        """Compute the output at the first call, and return a copy of it at every call."""
        nonlocal output
        if output is None:
            computed = compute(*inputs, **options)
            output = PrefixOutput(computed, computed.detach().requires_grad_(computed.requires_grad))
            outputs.append(output)
        return output.shared.clone()

    module.forward = forward
    try:
        yield
    finally:
        if own_forward is None:
            del module.forward
        else:
            module.forward = own_forward
