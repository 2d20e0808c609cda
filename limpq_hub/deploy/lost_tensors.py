"""Tensors that depend on the image in a way that no recorded call tells: taking one has to be an error."""

from __future__ import annotations

from torch import Tensor


class LostTensors:
    """Memory whose numbers cannot be followed, and why."""

    def __init__(self) -> None:
        # By where the memory begins, with a tensor that keeps it from being given to another one.
        self._held: dict[int, tuple[Tensor, str]] = {}

    def lose(self, x: Tensor, why: str) -> None:
        """Note that what a tensor shows cannot be followed.

        Args:
            why: what it is, such as "one of several results of chunk".
        """
        memory = _memory(x)
        if memory is not None:
            self._held.setdefault(memory, (x, why))

    def why(self, x: Tensor) -> str | None:
        """Return what a tensor is that shows such memory; None of any other."""
        memory = _memory(x)
        return None if memory is None or memory not in self._held else self._held[memory][1]


def share_memory(x: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are views of the same memory, or one of the other."""
    memory = _memory(x)
    return memory is not None and memory == _memory(other)


def _memory(x: Tensor) -> int | None:
    """Return where the memory of a tensor begins; None where it has none: empty, or inside of `torch.vmap`."""
    try:
        return x.untyped_storage().data_ptr() or None
    except NotImplementedError:
        return None
