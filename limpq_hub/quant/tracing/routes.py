"""`Route`: what a module multiplies itself, outside of its layers, and what quantizes it there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from limpq_hub.errors import UnsupportedLayerError
from limpq_hub.quant.tracing.recording import Call, ModuleCall, Operation

ProductKey = tuple[str | None, int]


@dataclass(frozen=True)
class Route:
    """What a module multiplies in its own forward pass, outside of its layers; nothing of one in float.

    Attributes:
        module: its name.
        layers: names of layers whose weights it takes, relative to it: "qkv" of `F.linear(x, self.qkv.weight)`.
        products: for each product of one call, in order, its name relative to the module; None where it stays in float.
    """

    module: str
    layers: tuple[str, ...]
    products: tuple[str | None, ...]


def product_names(network: nn.Module, operations: Mapping[str | ProductKey, Operation]) -> dict[ProductKey, str]:
    """Return the names of the products of activations by module and index; an unregistered module is "unregistered".

    The two products of an attention are "qk" and "av" below its module, others "product0", "product1", and so on.
    """
    counts = Counter(key[0] for key in operations if isinstance(key, tuple))
    names: dict[ProductKey, str] = {}
    for module, count in counts.items():
        if module is None:
            names |= {(None, index): f"unregistered:product{index}" for index in range(count)}
            continue
        # What a softmax gives lies between 0 and 1.
        is_attention = count == 2 and operations[module, 1].low >= 0 and operations[module, 1].high <= 1
        words = ("qk", "av") if is_attention else [f"product{index}" for index in range(count)]
        for index, word in enumerate(words):
            free = word if not hasattr(network.get_submodule(module), word) else f"{word}_product"
            names[module, index] = f"{module}.{free}" if module else free
    return names


def routes_of(
    calls: Sequence[Call], names: Mapping[ProductKey, str], ties: Mapping[str, str], operations: Mapping[str, Operation]
) -> dict[str, Route]:
    """Return the route of each module that multiplies itself, by its name.

    A module in float that makes products inside of such a one has an empty route, so that they are not counted there.

    Args:
        calls: all that multiply, in the order of execution.
        names: of the products.
        ties: for each layer that shares the weight of another, by name, that one.
        operations: by name; those of kind "float" need no route.

    Raises:
        UnsupportedLayerError: a module multiplies in one call what it does not in another.
    """
    layers: dict[str, dict[str, None]] = defaultdict(dict)
    routed: dict[str, None] = {}
    for call in calls:
        owner = call.inside[-1].name
        if owner is None or operations[_name(call, names)].kind == "float":
            continue
        if isinstance(call.key, tuple):
            routed[owner] = None
        elif owner not in (call.key, *(tied for tied, first in ties.items() if first == call.key)):
            if owner and not call.key.startswith(f"{owner}."):
                raise UnsupportedLayerError(
                    f"{owner} takes the weight of {call.key}, which is not below it, so no quantizer there would run; "
                    f'leave it in float with exclude=["{call.key}"]'
                )
            layers[owner][call.key[len(owner) + 1 :] if owner else call.key] = None
            routed[owner] = None
    products: dict[str, dict[int, list[str | None]]] = defaultdict(lambda: defaultdict(list))
    in_float: dict[str, None] = {}
    for call in calls:
        if isinstance(call.key, tuple) and (module := _innermost(call, routed)):
            owner = next((inside.name for inside in reversed(call.inside) if inside.name is not None), None)
            if owner is not None and owner not in routed:
                in_float[owner] = None
                continue
            searched = module.name == call.key[0] and operations[names[call.key]].kind == "product"
            name = names[call.key].rpartition(".")[2] if searched else None
            products[module.name or ""][id(module)].append(name)
    routes = {owner: Route(owner, (), ()) for owner in in_float}
    for owner in routed:
        sequences = {tuple(sequence) for sequence in products[owner].values()} or {()}
        if len(sequences) > 1:
            raise UnsupportedLayerError(
                f"{owner} multiplies other activations from call to call, so no bits can be given to them; leave it in "
                f'float with exclude=["{owner}"]'
            )
        routes[owner] = Route(owner, tuple(layers[owner]), sequences.pop())
    return routes


def _name(call: Call, names: Mapping[ProductKey, str]) -> str:
    return names[call.key] if isinstance(call.key, tuple) else call.key


def _innermost(call: Call, routed: Collection[str]) -> ModuleCall | None:
    """Return the innermost call of a routed module that this call runs in."""
    return next((module for module in reversed(call.inside) if module.name in routed), None)
