"""Tensors that depend on the image in a way that no recorded call tells: taking one has to be an error."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


class LostTensors:
    """Tensors that cannot be followed, and why."""

    def __init__(self) -> None:
        # By identity of the tensor, which is held: a tensor that is gone could give its identity to another one.
        self._held: dict[int, tuple[Tensor, str]] = {}

    def lose(self, x: Tensor, why: str) -> None:
        """Note that a tensor cannot be followed.

        Args:
            why: what it is, such as "one of several results of chunk".
        """
        self._held[id(x)] = (x, why)

    def first_of(self, tensors: Iterable[Tensor]) -> str | None:
        """Return what the first of some tensors that cannot be followed is; None if all can."""
        return next((self._held[id(x)][1] for x in tensors if id(x) in self._held), None)


def share_memory(x: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are views of the same memory, or one of the other."""
    return x.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
