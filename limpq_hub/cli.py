"""The `limpq` command: search, inspect and run mixed-precision networks from a shell.

Data goes to stdout, messages to stderr. Exit codes: 0 done, 2 usage or budget, 3 data, 5 artifact, 6 Hub.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpq_hub import __version__
from limpq_hub.errors import LimpqError
from limpq_hub.plan.budget import enough_bitops, format_bitops, format_size
from limpq_hub.plan.jsonfile import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from limpq_hub.plan.result import Plan
    from limpq_hub.zoo.catalog import Entry


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        options.run(options)
    except LimpqError as error:
        print(f"limpq {options.command}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"limpq {options.command}: {error.strerror or error}: {error.filename!r}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="limpq", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"limpq-hub {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        added.set_defaults(run=run)
        added.add_argument("--json", action="store_true", help="print JSON instead of tables")
        return added

    listing = command("list", _list, "List the models, and what was measured of each.")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern, for example 'resnet*'")

    search = command("search", _search, "Find the best bit-widths for a budget; needs no images and no GPU.")
    search.add_argument("model", help="resnet18, hf-hub:owner/name, local-dir:path, or an indicators.json")
    _add_search_options(search)
    search.add_argument("--output", type=Path, help="write the policy to this policy.json")

    front = command("frontier", _frontier, "Show the best policies over the whole range of budgets.")
    front.add_argument("model", help="resnet18, hf-hub:owner/name, local-dir:path, or an indicators.json")
    front.add_argument("--points", type=_count, default=20, help="how many budgets, evenly apart")
    front.add_argument("--alpha", type=float, help="factor of the weight importance in the objective")

    info = command("info", _info, "Show one model: its layers, budgets, policies, files and provenance.")
    info.add_argument("model", help="resnet18, hf-hub:owner/name or local-dir:path")

    predict = command("predict", _predict, "Say what a quantized network sees in a picture.")
    predict.add_argument("picture", type=Path, help="JPEG, PNG, WebP or GIF file")
    predict.add_argument("--model", required=True, help="resnet18, hf-hub:owner/name or local-dir:path")
    _add_search_options(predict)
    predict.add_argument("--policy", type=Path, help="policy.json, instead of a budget")
    predict.add_argument(
        "--weights", choices=("auto", "finetuned", "joint"), default="auto", help="which weights to load"
    )
    predict.add_argument("--top", type=_count, default=5, help="how many classes to show")

    reader = command("import", _import, "Turn an indicator pickle of the LIMPQ authors into an indicators.json.")
    reader.add_argument("pickle", type=Path, help="read without executing anything in it")
    reader.add_argument("--model", required=True, help="timm architecture that its layer names fit")
    reader.add_argument("--input-size", type=_count, default=224, help="height and width in pixels")
    reader.add_argument("--num-classes", type=_count, default=1000, help="outputs of the classifier")
    reader.add_argument("--output", type=Path, required=True, help="the indicators.json to write")
    return parser


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("budget, one or more")
    group.add_argument("--bitops", help="BitOps per image: 3G, 850M, or w3a4 for those of that uniform policy")
    group.add_argument("--size", help="bytes of all quantized weights: 4.5MB, 4.5MiB")
    group.add_argument("--compression", help="times smaller than 32-bit weights: 12.2x")
    group.add_argument("--activation-memory", help="bytes of the largest layer input: 64kB")
    choice = parser.add_argument_group("search")
    choice.add_argument("--alpha", type=float, help="factor of the weight importance in the objective")
    choice.add_argument("--candidates", type=int, nargs="+", help="bit-widths that may be used")
    choice.add_argument("--pin", type=_pin, action="append", metavar="PATTERN=W,A", help="fix layers: 'layer4.*=4,4'")
    choice.add_argument("--exclude", action="append", metavar="PATTERN", help="layers that keep their most bits")
    choice.add_argument("--tie", action="append", nargs="+", metavar="PATTERN", help="layers that get the same bits")
    choice.add_argument(
        "--time-limit", dest="time_limit_s", type=float, help="seconds until the search gives up; 10 if not given"
    )
    choice.add_argument("--counting", choices=("exact", "limpq"), help="how MACs are counted; exact if not given")


def _pin(text: str) -> tuple[str, tuple[int, int]]:
    pattern, _, bits = text.rpartition("=")
    weight, comma, activation = bits.partition(",")
    if not pattern or not comma or not weight.isdecimal() or not activation.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=W,A, for example 'layer4.*=4,4'")
    return pattern, (int(weight), int(activation))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _search_arguments(options: argparse.Namespace) -> dict[str, Any]:
    names = (
        "bitops",
        "size",
        "compression",
        "activation_memory",
        "alpha",
        "candidates",
        "exclude",
        "tie",
        "counting",
        "time_limit_s",
    )
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return given | ({"pin": dict(options.pin)} if options.pin else {})


def _list(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.catalog import find_entry, list_models

    entries = [find_entry(name) for name in list_models(options.pattern)]
    if options.json:
        _print_json([entry.summary() for entry in entries])
        return
    table = _table("Models", "model", "input", "weights", "BitOps", "size", "on disk", "top-1")
    for entry in entries:
        record = entry.summary()
        size = str(entry.indicators.input_size)
        float_size, float_top1 = format_size(record["float_bytes"]), _percent(record["float_top1"])
        table.add_row(entry.name, size, "float32", "", float_size, "", float_top1)
        for policy in record["policies"]:
            bitops, weights = format_bitops(policy["bitops"]), format_size(policy["size_bytes"])
            on_disk, top1 = format_size(policy["disk_bytes"]), _percent(policy["top1"])
            table.add_row("", size, f"{policy['name']} fine-tuned", bitops, weights, on_disk, top1)
        adapted = {joint["policy_sha256"]: joint["top1"] for joint in entry.front(calibrated=True)}
        for joint in entry.front(calibrated=False):
            kind, top1 = "joint, set to this budget", _percent(joint["top1"])
            if joint["policy_sha256"] in adapted:
                top1 += f", recalibrated {_percent(adapted[joint['policy_sha256']])}"
            table.add_row("", size, kind, format_bitops(joint["bitops"]), "", "", top1)
    _print(table)
    if entries:
        print(f"next: limpq search {entries[0].name} --bitops w4a4", file=sys.stderr)
    else:
        print(f"no bundled model matches {options.pattern!r}", file=sys.stderr)


def _search(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.planning import search

    plan = search(options.model, **_search_arguments(options))
    for outlier in plan.excluded:
        what = f"{outlier.bits} {outlier.kind} bits learned a smaller step than more bits did"
        print(f"note: {outlier.layer}: {what}, so they are left out", file=sys.stderr)
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.output:
        write_json(options.output, plan.policy.to_json())
        print(f"wrote {options.output}", file=sys.stderr)
    if options.json:
        _print_json(plan.to_json())
    else:
        _print(plan.table())


def _frontier(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.catalog import find_entry
    from limpq_hub.zoo.planning import frontier

    plans = frontier(options.model, points=options.points, alpha=options.alpha)
    entry = None if options.model.endswith(".json") else find_entry(options.model)
    measured = {plan.policy.digest(): entry and entry.measured(plan.policy.digest()) for plan in plans}
    if options.json:
        _print_json([plan.to_json() | {"top1": measured[plan.policy.digest()]} for plan in plans])
        return
    headings = ("BitOps", "size", "compression", "weight bits", "activation bits", "objective", "top-1, joint weights")
    table = _table(f"{options.model}: the best policy at each budget", *headings)
    for plan in plans:
        bits = [layer for name, layer in plan.policy.layers.items() if plan.costs[name].fixed is None]
        table.add_row(
            format_bitops(plan.bitops),
            format_size(plan.size_bytes),
            f"{plan.compression:.2f}x",
            f"{sum(layer.weight for layer in bits) / len(bits):.2f}",
            f"{sum(layer.activation for layer in bits) / len(bits):.2f}",
            f"{plan.objective:.4f}",
            _expected(None if options.alpha is not None else entry, plan, measured[plan.policy.digest()]),
        )
    _print(table)
    print(f"next: limpq search {options.model} --bitops {enough_bitops(plans[-1].bitops)}", file=sys.stderr)


def _expected(entry: Entry | None, plan: Plan, measured: float | None) -> str:
    expected = entry.expected_top1(plan.bitops) if entry and measured is None else None
    return _percent(measured) if expected is None else f"about {expected:.1f} %"


def _info(options: argparse.Namespace) -> None:
    from rich.markup import escape

    from limpq_hub.zoo.catalog import find_entry

    entry = find_entry(options.model)
    record = entry.summary()
    if options.json:
        _print_json(record | {"layers": entry.indicators.to_json()["layers"]})
        return
    rows = {
        "architecture": f"timm {record['architecture']}, {record['num_classes']} classes",
        "input": f"{record['input_size']} x {record['input_size']} pixels",
        "layers": f"{record['searched_layers']} searched, {record['fixed_layers']} fixed at 8/8 bits",
        "MACs": format_bitops(record["macs"]),
        "BitOps": f"{enough_bitops(record['minimum_bitops'])} to {enough_bitops(record['maximum_bitops'])}",
        "float top-1": _percent(record["float_top1"]),
        "source": " ".join(filter(None, (record["source"], record["revision"]))),
    }
    for policy in record["policies"]:
        costs = f"{format_bitops(policy['bitops'])} BitOps, {format_size(policy['size_bytes'])}"
        rows[f"policy {policy['name']}"] = f"{costs}, top-1 {_percent(policy['top1'])}"
        rows[f"policy {policy['name']} from"] = policy["command"] or "an unknown command"
    rows |= {f"file {name}": format_size(size) for name, size in record["files"].items()}
    rows |= {key: value if isinstance(value, str) else json.dumps(value) for key, value in record["provenance"].items()}
    table = _table(entry.name, "", "")
    for key, value in rows.items():
        table.add_row(escape(key), escape(value))
    _print(table)


def _predict(options: argparse.Namespace) -> None:
    from rich.markup import escape

    from limpq_hub.pictures import read_picture, top_classes
    from limpq_hub.zoo.loading import load

    picture = read_picture(options.picture)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load(options.model, policy=options.policy, weights=options.weights, **_search_arguments(options))
    for warning in caught:
        print(f"note: {warning.message}", file=sys.stderr)
    loaded, guesses = model.limpq, top_classes(model, picture, options.top)
    if options.json:
        _print_json(
            {
                "picture": str(options.picture),
                "model": options.model,
                "weights": loaded.weights,
                "bitops": loaded.plan.bitops,
                "size_bytes": loaded.plan.size_bytes,
                "top1": loaded.top1,
                "guesses": [vars(guess) for guess in guesses],
            }
        )
        return
    table = _table(f"{options.picture.name}, seen by {options.model}", "class", "probability")
    for guess in guesses:
        table.add_row(escape(guess.name), f"{guess.probability:.1%}")
    table.caption = (
        f"{loaded.weights} weights, {format_bitops(loaded.plan.bitops)} BitOps, {format_size(loaded.plan.size_bytes)}"
        + (f", {loaded.top1:.2f} % top-1 on its validation images" if loaded.top1 is not None else "")
    )
    _print(table)


def _import(options: argparse.Namespace) -> None:
    import timm
    import torch

    from limpq_hub.errors import UnknownModelError, shown
    from limpq_hub.interop import import_limpq_indicators
    from limpq_hub.quant.profile import profile_module

    if not timm.is_model(options.model) or "." in options.model:
        raise UnknownModelError(f"timm has no architecture {shown(options.model)}; see timm.list_models()")
    network = timm.create_model(options.model, num_classes=options.num_classes, pretrained=False)
    costs = profile_module(network, torch.zeros(1, 3, options.input_size, options.input_size))
    indicators = import_limpq_indicators(
        options.pickle,
        model=options.model,
        input_size=options.input_size,
        num_classes=options.num_classes,
        costs=costs,
    )
    indicators.save(options.output)
    if options.json:
        _print_json({"output": str(options.output), "layers": len(costs), "candidates": indicators.candidates})
    print(f"wrote {options.output}; next: limpq search {options.output} --bitops w4a4", file=sys.stderr)


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} %"


def _table(title: str, *headings: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), show_header=any(headings), min_width=min(len(title) + 4, 76))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    # Where there is no terminal there is no width to wrap at.
    console.print(table) if console.is_terminal else Console(width=160).print(table)


def _print_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    print(json.dumps(content, indent=1))
