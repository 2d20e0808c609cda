"""Interval analysis of a forward pass: lower and upper bounds of every tensor, found while the operations run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from limpq_hub.quant.bounds.activation_bounds import Rule
from limpq_hub.quant.bounds.bound_rules import RULES
from limpq_hub.quant.bounds.intervals import Bounds, hull


class ValueBounds(TorchDispatchMode):
    """While active, works out the bounds of every tensor that operations give, from those of their operands.

    On the meta device nothing is computed and no memory taken; on others the results of all operations are held in
    memory as long as this object. Bounds are kept for each storage, which all views of a tensor share.
    """

    def __init__(self) -> None:
        super().__init__()
        # Storages are compared by identity, and as long as one is a key here, no later one takes its place. The type
        # is that of the tensor written last: a view of another type reads the same bytes as other numbers.
        self._bounds: dict[torch.UntypedStorage, tuple[torch.dtype, Bounds]] = {}

    def of(self, tensor: Tensor) -> Bounds:
        """Return the bounds of `tensor`: infinite for parameters, inputs, whole numbers and unknown operations."""
        dtype, bounds = self._bounds.get(tensor.untyped_storage(), (tensor.dtype, Bounds()))
        return bounds if dtype == tensor.dtype else Bounds()

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func` and note the bounds of what it gives or changes."""
        kwargs = dict(kwargs or {})
        schema = func._schema
        has_result_as_argument = any(argument.is_out for argument in schema.arguments)
        rule = None if has_result_as_argument else RULES.get(schema.name.removeprefix("aten::").removesuffix("_"))
        if rule is None:
            # In inference mode operations that are made of others arrive whole.
            with self:
                composed = func.decompose(*args, **kwargs)
            if composed is not NotImplemented:
                return composed
        operand_storages = {tensor.untyped_storage() for tensor in _tensors((args, kwargs))}
        changed = _changed_arguments(func, args, kwargs)
        result = func(*args, **kwargs)
        bounds = Bounds() if rule is None else self._apply(rule, args, kwargs)
        for tensor in changed:
            self._note(tensor, bounds if _fills_storage(tensor) else hull(self.of(tensor), bounds))
        for tensor in _tensors(result):
            # A view says nothing new of the storage that it shares.
            if tensor.untyped_storage() not in operand_storages:
                self._note(tensor, bounds)
        return result

    def _apply(self, rule: Rule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bounds:
        operands, options = tree_map_only(Tensor, self.of, (args, kwargs))
        return rule(*operands, **options)

    def _note(self, tensor: Tensor, bounds: Bounds) -> None:
        # Whole numbers wrap around, and complex ones have no order.
        if tensor.is_floating_point() and bounds != Bounds():
            self._bounds[tensor.untyped_storage()] = (tensor.dtype, bounds)
        else:
            self._bounds.pop(tensor.untyped_storage(), None)


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _changed_arguments(func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors that `func` writes to."""
    arguments = func._schema.arguments
    values = {argument.name: value for argument, value in zip(arguments, args, strict=False)} | dict(kwargs)
    written = [argument.name for argument in arguments if argument.alias_info and argument.alias_info.is_write]
    return _tensors([values.get(name) for name in written])


def _fills_storage(tensor: Tensor) -> bool:
    """Return whether `tensor` has every element of its storage, each once."""
    elements = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != elements:
            return False
        elements *= size
    return elements * tensor.element_size() == tensor.untyped_storage().nbytes()
