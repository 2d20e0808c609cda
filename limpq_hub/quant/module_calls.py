"""Watch which modules run, whatever network they belong to, without touching them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


@contextmanager
def watched_module_calls(
    enter: Callable[[nn.Module, tuple[Any, ...]], None], leave: Callable[[nn.Module, tuple[Any, ...], Any], None]
) -> Iterator[None]:
    """Call `enter` before and `leave` after each module that this thread runs inside the block.

    Args:
        enter: takes the module and its positional inputs.
        leave: takes the module, its positional inputs and its output; after an error too, the output None then.
    """
    thread = get_ident()

    # Torch's global hooks run in every thread of the process: another thread may run another network.
    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Call `enter` if the module runs in the thread of the block."""
        if get_ident() == thread:
            enter(module, inputs)

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Call `leave` if the module runs in the thread of the block."""
        if get_ident() == thread:
            leave(module, inputs, output)

    handles = [register_module_forward_pre_hook(before), register_module_forward_hook(after, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
