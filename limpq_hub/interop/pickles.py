"""The LIMPQ authors' indicator pickles, read without executing anything in them."""

from __future__ import annotations

import os
import pickletools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactFormatError, UnsafeFileError, quoted
from limpq_hub.plan.costs import Costs
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.jsonfile import errors_naming
from limpq_hub.plan.quantities import is_number

_MARK = object()
_LITERALS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_VALUES = {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINFLOAT", "FLOAT", "BININT", "BININT1", "BININT2", "LONG1"}
_IGNORED = {"PROTO", "FRAME"}


def read_limpq_pickle(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the plain dicts, lists, texts and numbers of a pickle; nothing in it is called or imported.

    Raises:
        UnsafeFileError: the pickle holds anything else, such as a function to call.
        ArtifactFormatError: the file is not a pickle.
        InputFileError: it is no regular file, or larger than indicators are.
        OSError: the file cannot be read.
    """
    data, name = read_regular(path), str(path)
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                break
            _apply(opcode.name, argument, stack, memo)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{name}: {error}") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactFormatError(f"{name} is not a pickle that can be read: {str(error)[:100]}") from None
    if len(stack) != 1 or not isinstance(stack[0], dict):
        raise ArtifactFormatError(f"{name} holds no dictionary; is it an indicator file of the LIMPQ authors?")
    return stack[0]


def import_limpq_indicators(
    path: str | os.PathLike[str], *, model: str, input_size: int, num_classes: int, costs: Costs
) -> Indicators:
    """Return the indicators in a pickle of the LIMPQ authors, with the layer costs of a network measured here.

    Args:
        model: timm architecture that the layer names fit.
        input_size: height and width in pixels.
        costs: cost of each layer; steps of its fixed layers are left out.

    Raises:
        UnsafeFileError: the pickle holds more than plain values.
        ArtifactFormatError: it is no indicator file, or for another network; names the layer.
    """
    content = read_limpq_pickle(path)
    searched = [name for name, cost in costs.items() if cost.fixed is None]
    steps = {}
    for key in ("weight", "act"):
        if not isinstance(content.get(key), dict):
            raise ArtifactFormatError(f"{path}: no {key!r} steps in it; is it an indicator file of the LIMPQ authors?")
        names = [str(name).removeprefix("module.") for name in content[key]]
        foreign = [name for name in names if name not in costs]
        if foreign:
            raise ArtifactFormatError(
                f"{path}: layer {quoted(foreign[0])} is not a layer of {model}; is --model right?"
            )
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ArtifactFormatError(f"{path}: layer {quoted(twice[0])} stands twice among the {key!r} steps")
        named = dict(zip(names, content[key].values(), strict=True))
        steps[key] = {name: _step_sizes(f"{path}: layer {name}", named[name]) for name in searched if name in named}
    with errors_naming(str(path)):
        return Indicators(
            model=model,
            input_size=input_size,
            num_classes=num_classes,
            costs=costs,
            weight_steps=steps["weight"],
            activation_steps=steps["act"],
            provenance={"imported_from": Path(path).name, "published_by": "the LIMPQ authors (MIT licence)"},
        )


def _step_sizes(where: str, of_layer: Any) -> dict[int, float]:
    if not isinstance(of_layer, Mapping):
        raise ArtifactFormatError(f"{where}: no step for each bit-width, found {quoted(of_layer)}")
    steps: dict[int, float] = {}
    for bits, step in of_layer.items():
        if not str(bits).isdecimal() or not is_number(step):
            raise ArtifactFormatError(f"{where}: {quoted(step)} at {quoted(bits)} bits is not a step size")
        if int(bits) in steps:
            raise ArtifactFormatError(f"{where}: two steps at {int(bits)} bits; keep one")
        steps[int(bits)] = float(step)
    return steps


def _apply(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Carry out one pickle operation that builds plain values; refuse every other one."""
    if name in _IGNORED:
        return
    if name in _VALUES:
        stack.append(argument)
    elif name in _LITERALS:
        stack.append(_LITERALS[name]())
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
    elif name == "SETITEMS":
        items = _to_mark(stack)
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name == "APPEND":
        value = stack.pop()
        stack[-1].append(value)
    elif name == "APPENDS":
        items = _to_mark(stack)
        stack[-1].extend(items)
    else:
        raise UnsafeFileError(f"the pickle operation {name} builds more than plain values; nothing of it was read")


def _to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]
