"""A mapping that cannot be changed, but copied and pickled."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class FrozenMapping(Mapping[Key, Value], Generic[Key, Value]):
    """A read-only copy of a mapping, in its order."""

    def __init__(self, items: Mapping[Key, Value]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: Key) -> Value:
        return self._items[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    # Those of the dict: the ones that `Mapping` derives take a call of Python for each key.
    def __contains__(self, key: object) -> bool:
        return key in self._items

    def keys(self) -> KeysView[Key]:
        """Return the keys."""
        return self._items.keys()

    def values(self) -> ValuesView[Value]:
        """Return the values."""
        return self._items.values()

    def items(self) -> ItemsView[Key, Value]:
        """Return (key, value) of each item."""
        return self._items.items()

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)
