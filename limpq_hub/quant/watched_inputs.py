"""Look at what modules of a network take in while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def watched_inputs(modules: Mapping[str, Module], look: Callable[[str, Module, Tensor], None]) -> Iterator[None]:
    """Inside the block, each time one of the modules is called, call `look` first.

    Args:
        modules: by name.
        look: takes the name, the module, and the first argument of the call, which may be given by name; it may change
            the module.
    """

    def hook_of(name: str) -> Callable[[Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        """Return the forward pre-hook of the module of this name."""

        def hook(module: Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            """Look at the first argument of a call."""
            # Nothing is returned: torch would hand that to the module in place of the arguments.
            look(name, module, next(iter((*arguments, *named.values()))))

        return hook

    handles = [module.register_forward_pre_hook(hook_of(name), with_kwargs=True) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
