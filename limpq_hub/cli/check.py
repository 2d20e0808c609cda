"""The command to run first: check, what of any timm network would be searched, fixed, and left in float."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from limpq_hub.cli.options import count
from limpq_hub.cli.output import new_table, note, print_json, print_table
from limpq_hub.plan.costs import LayerCost
from limpq_hub.plan.quantities import enough_bitops, enough_size, format_bitops
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.option_types import LARGEST_INPUT, add_model_arguments, whole_number
from limpq_hub.zoo.model_args import typed_text

if TYPE_CHECKING:
    from limpq_hub.quant.network_check import Kind, NetworkCheck

_HEADINGS: dict[Kind, str] = {
    "convolution": "convolutions",
    "linear": "linear layers",
    "product": "products of activations",
    "float": "left in float",
}
# How many names a line of text has at most.
_SHOWN = 6


def add_check_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command of this module."""
    check = command("check", _check, "Say what of a timm network would be searched, fixed, and left in float.")
    check.add_argument("name", metavar="NAME", help="timm network, for example mobilenetv3_small_100")
    check.add_argument(
        "--input-size", type=whole_number(1, LARGEST_INPUT), help="height and width in pixels; timm's if not given"
    )
    check.add_argument("--num-classes", type=count, help="outputs of the classifier; timm's if not given")
    add_model_arguments(check)
    for name, what in (
        ("--exclude", "layers, products and modules that stay in float, for example 'blocks.0.*'"),
        ("--fix", "those that are fixed at 8/8 bits"),
    ):
        check.add_argument(name, action="extend", nargs="+", default=[], metavar="PATTERN", help=what)
    check.add_argument("--layers", action="store_true", help="show one row for each layer and product")


def _check(options: argparse.Namespace) -> None:
    from limpq_hub.quant.network_check import check_network
    from limpq_hub.zoo.meta_network import input_shape_of, network_on_meta

    network = network_on_meta(
        options.name,
        num_classes=options.num_classes,
        input_size=options.input_size,
        model_args=options.model_args,
    )
    check = check_network(network, input_shape_of(network), exclude=options.exclude, fix=options.fix)
    if options.json:
        arguments = {"model_args": options.model_args} if options.model_args else {}
        print_json({"model": options.name, **arguments, **check.to_json()})
        return
    _print_kinds(" ".join([options.name, *typed_text(options.model_args or {})]), check)
    if options.layers:
        _print_layers(check)
    print(_classes(network, options.num_classes))
    for line in _lines(check):
        print(line)
    _advise(options, check)


def _classes(network: Any, typed: int | None) -> str:
    """Return for how many classes the figures are: the last layer is as wide."""
    hint = "" if typed else ", as timm has it; --num-classes gives the figures of another head"
    return f"classifier: {network.num_classes} classes{hint}"


def _print_kinds(name: str, check: NetworkCheck) -> None:
    size = " x ".join(map(str, check.input_shape[1:]))
    headings = ("", "how many", "searched", "MACs", "share of MACs", "weights", "share of weights")
    table = new_table(f"{name} at {size} pixels", *headings)
    every = list(check.costs.values())
    for kind, heading in _HEADINGS.items():
        costs = list(check.of_kind(kind).values())
        if costs:
            table.add_row(heading, *_sums(costs, every))
    table.add_section()
    table.add_row("in all", *_sums(every, every))
    print_table(table)


def _sums(costs: list[LayerCost], every: list[LayerCost]) -> Iterator[str]:
    yield str(len(costs))
    yield str(sum(cost.fixed is None for cost in costs))
    macs, weights = (sum(getattr(cost, what) for cost in costs) for what in ("macs", "weights"))
    all_macs, all_weights = (sum(getattr(cost, what) for cost in every) for what in ("macs", "weights"))
    yield format_bitops(macs)
    yield f"{100 * macs / all_macs:.1f} %"
    yield format_bitops(weights)
    yield f"{100 * weights / all_weights:.1f} %"


def _print_layers(check: NetworkCheck) -> None:
    table = new_table("In the order of execution", "name", "kind", "MACs", "weights", "input", "bits")
    lowest, highest = check.candidates[0], check.candidates[-1]
    for name, operation in check.operations.items():
        cost = operation.cost
        values = "bounded below" if cost.offset else "any sign" if cost.signed else "not negative"
        searched = f"{lowest} to {highest}"
        bits = operation.reason or (f"{cost.fixed.weight}/{cost.fixed.activation}" if cost.fixed else searched)
        table.add_row(name, operation.kind, format_bitops(cost.macs), format_bitops(cost.weights), values, bits)
    print_table(table)


def _lines(check: NetworkCheck) -> Iterator[str]:
    """Yield what the table does not show, a line each."""
    if check.fixed:
        yield f"fixed at 8/8 bits: {_listed(check.fixed)}"
    in_float: dict[str, dict[str, int]] = {}
    for name, operation in check.operations.items():
        if operation.reason:
            in_float.setdefault(operation.reason, {})[name] = operation.cost.macs
    for reason, macs in in_float.items():
        yield f"left in float, {reason} ({format_bitops(sum(macs.values()))} MACs): {_listed(macs)}"
    others = [f"{number} {name}" for name, number in check.normalizations.items()]
    if any(name.endswith("av") for name in check.of_kind("product")):
        others.append("the softmax of attention")
    if others:
        yield f"in float, without MACs: {', '.join(others)}"
    if check.ties:
        yield f"sharing one weight and one step: {_listed([f'{name} = {first}' for name, first in check.ties.items()])}"
    if check.uncalled:
        yield f"never called in evaluation, so left out: {_listed(check.uncalled)}"
    counted, flop_counter = check.macs, check.flop_counter_macs
    verdict = "equal to" if check.agrees else "NOT equal to"
    yield f"MACs: {format_bitops(counted)} ({counted:,}), {verdict} those of PyTorch's flop counter ({flop_counter:,})"
    lowest, highest = check.candidates[0], check.candidates[-1]
    for what, (low, high), written in (
        ("BitOps", check.bitops_range, enough_bitops),
        ("weights", check.size_bytes_range, enough_size),
    ):
        if low == high:
            yield f"{what}: {written(low)}"
        else:
            least = f"{written(low)} (all that is searched at {lowest} bits)"
            yield f"{what}: from {least} to {written(high)} ({highest} bits)"


def _listed(names: Collection[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more (--layers or --json name them)" if len(names) > _SHOWN else ""
    return ", ".join(list(names)[:_SHOWN]) + more


def _advise(options: argparse.Namespace, check: NetworkCheck) -> None:
    import timm

    if not check.agrees:
        note("note: the two counts differ, which is a bug of limpq-hub: please report the name of the network")
    if not check.searched:
        note("note: nothing is left to search")
        return
    network = ["--model", options.name]
    if options.model_args:
        network += ["--model-args", *typed_text(options.model_args)]
    network += ["--input-size", str(check.input_shape[-1])]
    chosen = [word for flag, patterns in _choices(options) for word in (flag, *patterns)]
    launch, in_float = ["accelerate", "launch", "-m"], f"out/{options.name}-float"
    joint = [*launch, "limpq_hub.train.indicators", *network]
    result = ["--output", f"out/{options.name}", *chosen]
    if timm.is_model_pretrained(options.name) and not options.model_args:  # which may be of another shape
        note("from timm's weights, with photographs that need no labels (--data FOLDER takes labelled ones):")
        note(f"next: {shell_command(*joint, '--unlabelled', 'FOLDER', *result)}")
    note("for classes of your own:")
    pretrain = [*launch, "limpq_hub.train.pretrain", *network, "--data", "FOLDER", "--output", in_float]
    note(f"next: {shell_command(*pretrain)}")
    weights = ["--weights", f"{in_float}/model.safetensors", "--distill", "0.5"]
    note(f"then: {shell_command(*joint, '--data', 'FOLDER', *weights, *result)}")


def _choices(options: argparse.Namespace) -> Iterator[tuple[str, Collection[str]]]:
    """Yield the options that choose operations, with their patterns."""
    for flag, patterns in (("--exclude", options.exclude), ("--fix", options.fix)):
        if patterns:
            yield flag, patterns
