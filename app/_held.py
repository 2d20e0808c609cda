"""What visitors share, held in memory up to so many bytes: what was not used for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from torch import nn

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Held(Generic[Key, Value]):
    """Values by key, of a bounded sum of bytes; for several threads only under a lock of theirs."""

    def __init__(self, most_bytes: int, bytes_of: Callable[[Value], int]) -> None:
        """Hold nothing yet.

        Args:
            most_bytes: of all values together; the newest one is held even where it has more by itself.
            bytes_of: how many one value has.
        """
        self._most_bytes, self._bytes_of = most_bytes, bytes_of
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    @property
    def held_bytes(self) -> int:
        """Bytes of all values together."""
        return sum(size for _, size in self._values.values())

    def get(self, key: Key) -> Value | None:
        """Return a value, which is then the one last used, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Key, value: Value) -> None:
        """Hold a value, in place of as many others as have to go."""
        self._values[key] = value, self._bytes_of(value)
        while self.held_bytes > self._most_bytes and len(self._values) > 1:
            self._values.popitem(last=False)


def network_bytes(network: nn.Module) -> int:
    """Return the bytes of the parameters and buffers of a network."""
    return sum(tensor.nbytes for tensors in (network.parameters(), network.buffers()) for tensor in tensors)
