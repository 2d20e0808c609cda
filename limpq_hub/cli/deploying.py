"""The commands about other runtimes: export and measure-latency."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

from limpq_hub.cli.measuring import check_folder, drawn_pictures
from limpq_hub.cli.options import MODEL, add_load_options, count, found_request, search_arguments
from limpq_hub.cli.output import new_table, note, print_facts, print_json, print_notes, print_table
from limpq_hub.cli.outputs import check_outputs
from limpq_hub.errors import OutputError
from limpq_hub.plan.option_wording import as_typed
from limpq_hub.plan.output_file import is_replaced
from limpq_hub.plan.quantities import format_bitops, format_size
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.option_types import output_file, seed

_NEEDED = 'needs: pip install "limpq-hub[export]"'
# Drawn to compare logits on.
_IMAGES = 100
FORMATS = ("openvino", "onnxruntime", "qonnx")


def add_deploy_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands of this module."""
    export = command("export", _export, "Write a quantized network as ONNX, its integers and its logits checked.")
    export.epilog = (
        f"{_NEEDED}; what is written and checked, and what each format is for: python -m pydoc limpq_hub.deploy"
    )
    export.add_argument("model", help=MODEL)
    add_load_options(export)
    export.add_argument(
        "--format",
        choices=FORMATS,
        default="openvino",
        help="openvino: exact integers on a CPU; onnxruntime: approximate, 8 bits between the layers too; "
        "qonnx: for FINN and hls4ml, which make hardware of the bits",
    )
    export.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to write")
    export.add_argument(
        "--images", metavar="FOLDER", help="pictures to compare logits on, nested or flat; noise if not given"
    )
    export.add_argument("--count", type=count, help=f"how many of them, drawn by --seed; {_IMAGES} if not given")
    export.add_argument("--seed", type=seed, help="of the draw; 0 if not given")
    export.add_argument(
        "--vnni",
        action=argparse.BooleanOptionalAction,
        help="for openvino: --vnni stores weights of 8 bits as integers, which can overflow on a CPU without VNNI, "
        "--no-vnni in float; if neither is given, what is exact on this CPU",
    )
    export.add_argument(
        "--explain", action="store_true", help="list which layers run in integers in the runtime on this machine"
    )

    measure = command(
        "measure-latency",
        _measure,
        "Measure how long each layer takes at each of its bits, for a search within a time.",
    )
    measure.epilog = (
        f'{_NEEDED}; next: limpq search MODEL --latency TABLE.csv 2ms; a limit without "ms" is in the unit of the table'
    )
    measure.add_argument("model", help=MODEL)
    measure.add_argument("--runtime", choices=("openvino",), default="openvino", help="what runs the layers")
    measure.add_argument("--rounds", type=count, default=30, help="how often each layer runs at each of its bits")
    measure.add_argument("--threads", type=count, help="how many to use; as many as the runtime takes if not given")
    measure.add_argument(
        "--output", type=output_file("table.csv"), required=True, metavar="TABLE.csv", help="the table to write"
    )


def _export(options: argparse.Namespace) -> None:
    from limpq_hub.deploy.export_folder import check_export_target
    from limpq_hub.deploy.formats import check_format

    check_format(options.format)
    _check_effect(options)
    check_export_target(options.output)  # before the network is loaded
    entry, plan = found_request(options)
    if options.images:
        check_folder(options.images)
    from limpq_hub.deploy.exporting import export
    from limpq_hub.zoo.loading import load_entry

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_entry(entry, plan, policy=options.policy, weights=options.weights, **search_arguments(options))
    print_notes(model.limpq.plan)
    for warning in caught:
        note(f"note: {as_typed(str(warning.message))}")
    images = None
    if options.images:
        images = drawn_pictures(options.images, options.count or _IMAGES, options.seed or 0, model.limpq.network)
    exported = export(model, options.output, format=options.format, images=images, vnni=options.vnni)
    of_eight_bits = any(bits.weight == 8 for bits in plan.policy.layers.values())
    if options.vnni is None and options.format == "openvino" and of_eight_bits and not exported.needs_vnni:
        note(
            "note: weights of 8 bits stay in float in the file: torch finds no VNNI on this CPU, without which they "
            "can overflow as integers; --vnni tries, and checks it"
        )
    pictures = "noise (pictures: --images FOLDER)" if exported.noise else options.images
    if options.json:
        print_json(exported.to_json() | {"output": str(options.output), "bitops": plan.bitops})
        return
    integer_layers, of_layers = exported.integer_layers, exported.parity_of_layers
    rows = {
        "policy": f"{format_bitops(plan.bitops)} BitOps, {model.limpq.weights} weights",
        "model.onnx": format_size(exported.size_bytes),
        "integers": f"{exported.integers:,} weights read back, equal bit for bit",
        "logits": f"{exported.parity}, by {exported.runtime}, on {pictures}",
        **({"layer by layer": str(of_layers)} if of_layers else {}),
        "verdict": exported.verdict,
        "layers": "in float here; the bits are for hardware that is made of the file"
        if integer_layers is None
        else f"{sum(integer_layers.values())} of {len(integer_layers)} run in integers in {exported.runtime} on this "
        "CPU",
    }
    print_facts(f"{options.model} for {options.format}, in {options.output}", rows)
    if options.explain and integer_layers is not None:
        layers = new_table("What the runtime does here", "layer", "bits", "runs in")
        for name, in_integers in integer_layers.items():
            bits = plan.policy.layers[name]
            layers.add_row(name, f"{bits.weight}/{bits.activation}", "integers" if in_integers else "float")
        print_table(layers)
    if exported.format != "qonnx":  # which is for tools that make hardware
        note(f"next: {shell_command('limpq', 'predict', options.images or 'FOLDER', '--exported', options.output)}")


def _check_effect(options: argparse.Namespace) -> None:
    """Raise `OutputError` for an option that would change nothing beside the others."""
    if not options.images and (options.count is not None or options.seed is not None):
        raise OutputError("--count and --seed draw from the pictures of --images FOLDER: add it, or leave them out")
    if options.explain and options.format == "qonnx":
        raise OutputError("--explain tells what a runtime runs, and --format qonnx is for hardware: leave it out")


def _measure(options: argparse.Namespace) -> None:
    from limpq_hub.deploy.formats import check_format
    from limpq_hub.plan.output_file import write_bytes
    from limpq_hub.train.progress import progress_teller
    from limpq_hub.zoo.catalog import find_entry

    check_outputs(options)
    check_format(options.runtime, f"--runtime {options.runtime}")
    entry = find_entry(options.model)
    from limpq_hub.deploy.layer_latency import measure_layers
    from limpq_hub.zoo.network import NetworkSpec

    with progress_teller("measuring the time of the layers", "shapes") as tell:
        table = measure_layers(
            entry.indicators,
            NetworkSpec.from_config(entry.folder.config, entry.name),
            rounds=options.rounds,
            threads=options.threads,
            tell=tell,
        )
    write_bytes(options.output, table.to_csv().encode())
    least, most = (sum(extreme(times.values()) for times in table.milliseconds.values()) for extreme in (min, max))
    if options.json:
        print_json(
            {
                "output": str(options.output),
                "layers": len(table.milliseconds),
                "least_ms": least,
                "most_ms": most,
                "runtime": table.runtime,
                "cpu": table.cpu,
            }
        )
    note(f"{len(table.milliseconds)} layers by {table.runtime} on {table.cpu}: {least:.3g} to {most:.3g} ms in all")
    middle = f"{(least + most) / 2:.3g}ms"
    if is_replaced(options.output):
        note(f"next: {shell_command('limpq', 'search', Path(options.model), '--latency', options.output, middle)}")
