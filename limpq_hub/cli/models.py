"""The commands about models: list, info and import."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from limpq_hub.cli.options import MODEL, WORDS, count
from limpq_hub.cli.output import new_table, note, print_facts, print_json, print_table
from limpq_hub.cli.outputs import check_outputs
from limpq_hub.errors import ArtifactError, HubError, UnknownModelError, quoted
from limpq_hub.plan.first_budget import first_budget
from limpq_hub.plan.importance import objective_words
from limpq_hub.plan.output_file import is_replaced
from limpq_hub.plan.quantities import enough_bitops, format_bitops, format_size
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.option_types import output_file

if TYPE_CHECKING:
    from limpq_hub.zoo.measurement import Measurement


def add_model_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands of this module."""
    listing = command("list", _list, "List the models, and what was measured of each.")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern of names, for example 'resnet*'")
    listing.add_argument("--hub", metavar="OWNER", help="list what this owner has published on the Hub instead")

    listing.epilog = WORDS

    info = command("info", _info, "Show one model: its layers in sum, budgets, policies, files and provenance.")
    info.add_argument("model", help=MODEL)

    reader = command("import", _import, "Turn an indicator pickle of the LIMPQ authors into an indicators.json.")
    reader.add_argument("pickle", type=Path, help="read without executing anything in it")
    reader.add_argument("--model", required=True, help="timm architecture that its layer names fit")
    reader.add_argument("--input-size", type=count, default=224, help="height and width in pixels")
    reader.add_argument("--num-classes", type=count, default=1000, help="outputs of the classifier")
    reader.add_argument(
        "--output",
        type=output_file("indicators.json", ending=".json"),
        required=True,
        help="the indicators.json to write",
    )


def _list(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.catalog import find_entry, list_models
    from limpq_hub.zoo.joint_accuracy import joint_accuracies
    from limpq_hub.zoo.measurement import accuracy_cell, float_label, float_measurement, float_size, policy_measurement

    if options.pattern.startswith(("local-dir:", "hf-hub:")):
        raise UnknownModelError(
            f"{quoted(options.pattern)} names one model, and a pattern is expected here: "
            f"{shell_command('limpq', 'info', options.pattern)} shows it"
        )
    if options.hub:
        from limpq_hub.zoo.hub.repository import list_repositories

        names = [
            f"hf-hub:{repo}" for repo in list_repositories(options.hub) if fnmatchcase(repo, f"*/{options.pattern}")
        ]
    else:
        names = list_models(options.pattern)
    entries = []
    for name in names:
        try:
            entry = find_entry(name)
            entries.append((entry, entry.summary()))
        except (ArtifactError, HubError) as error:  # one that is damaged does not hide the others
            note(f"note: {name} is left out: {error}")
    if options.json:
        print_json([record for _, record in entries])
        return
    if not entries:
        where = f"no model of {options.hub} on the Hub" if options.hub else "no bundled model"
        folder = "" if options.hub else "; limpq info local-dir:FOLDER shows what you have trained"
        note(f"{where} matches {quoted(options.pattern)}{folder}")
        return
    table = new_table("Models", "model", "input", "weights", "BitOps", "size", "on disk", "top-1")
    captions: list[str] = []
    for entry, record in entries:
        size = str(entry.indicators.input_size)
        measured = float_measurement(entry)
        float_top1 = accuracy_cell(entry.metrics.get("float", {}), measured)
        on_images = {measured.images_text} if float_top1 else set()
        table.add_row(entry.name, size, float_label(entry), "", float_size(entry), "", float_top1)
        for policy in record["policies"]:
            bitops, weights = format_bitops(policy["bitops"]), format_size(policy["size_bytes"])
            measured = policy_measurement(entry, policy["name"])
            on_disk, top1 = format_size(policy["disk_bytes"]), accuracy_cell(policy, measured)
            on_images |= {measured.images_text} if top1 else set()
            table.add_row("", size, f"{policy['name']} fine-tuned", bitops, weights, on_disk, top1)
        if joint := joint_accuracies(entry):
            ends = [joint[0], *joint[1:][-1:]]
            on_images |= {end.measured.images_text for end in ends}
            budgets = "at a budget" if len(joint) == 1 else f"at {len(joint)} budgets"
            bitops, top1 = (
                " to ".join(texts) for texts in zip(*((end.label, end.as_shipped) for end in ends), strict=True)
            )
            table.add_row("", size, f"joint, {budgets}", bitops, "", "", top1)
        if on_images := on_images - {""}:
            captions.append(f"{entry.name}: top-1 on {' or '.join(sorted(on_images))}")
    table.caption = "\n".join([*captions, *(["+/- one standard error"] if captions else [])]) or None
    print_table(table)
    first, _ = entries[0]
    budget = first_budget(first.indicators)
    note(f"next: {shell_command('limpq', 'search', first.name, '--bitops', budget)}")


def _info(options: argparse.Namespace) -> None:
    from limpq_hub.zoo.catalog import find_entry
    from limpq_hub.zoo.joint_accuracy import joint_accuracies
    from limpq_hub.zoo.measurement import accuracy_cell, float_label, float_measurement, policy_measurement

    entry = find_entry(options.model)
    record = entry.summary()
    if options.json:
        print_json(record | {"layers": entry.indicators.to_json()["layers"]})
        return
    of_float = float_measurement(entry)
    rows = {
        "architecture": f"timm {record['architecture']}, {record['num_classes']} classes",
        "input": f"{record['input_size']} x {record['input_size']} pixels",
        "layers": f"{record['searched_layers']} searched, {record['fixed_layers']} fixed at 8/8 bits"
        + (f", {record['float_layers']} in float" if record["float_layers"] else ""),
        "MACs": format_bitops(record["macs"]),
        "BitOps": f"{enough_bitops(record['minimum_bitops'])} to {enough_bitops(record['maximum_bitops'])}",
        f"top-1, {float_label(entry)}": _measured(accuracy_cell(entry.metrics.get("float", {}), of_float), of_float),
        "bits chosen by": objective_words(entry.indicators.objective, entry.indicators.apart),
        "source": " ".join(filter(None, (record["source"], record["revision"]))),
    }
    for policy in record["policies"]:
        size, on_disk = format_size(policy["size_bytes"]), format_size(policy["disk_bytes"])
        costs = f"{format_bitops(policy['bitops'])} BitOps, {size} of weights, {on_disk} on disk"
        measured = policy_measurement(entry, policy["name"])
        rows[f"policy {policy['name']}"] = f"{costs}, top-1 {_measured(accuracy_cell(policy, measured), measured)}"
        rows[f"policy {policy['name']} from"] = policy["command"] or "an unknown command"
    for joint in joint_accuracies(entry):
        recalibrated = f", recalibrated {joint.recalibrated}" if joint.recalibrated else ""
        rows[f"joint, set to {joint.label}"] = f"top-1 {_measured(joint.as_shipped, joint.measured)}{recalibrated}"
    rows |= {f"file {name}": format_size(size) for name, size in record["files"].items()}
    in_lines = {key: value for key, value in record["provenance"].items() if not _is_table(value)}
    rows |= {key: _in_words(value) for key, value in in_lines.items()}
    print_facts(entry.name, rows)


def _is_table(value: object) -> bool:
    """Return whether a value of a record has rows of numbers, which --json shows."""
    rows = list(value.values()) if isinstance(value, dict) else []
    return bool(rows) and all(isinstance(row, list) and not any(isinstance(cell, str) for cell in row) for row in rows)


def _measured(accuracy: str, measurement: Measurement) -> str:
    """Return an accuracy with the images that it was measured on, where it was and they are known."""
    return f"{accuracy} on {measurement.images_text}" if accuracy and measurement.images_text else accuracy


def _in_words(value: object) -> str:
    """Return a value of a record without the brackets and quotes of JSON."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(inner)}" for key, inner in value.items())
    return " ".join(map(_in_words, value)) if isinstance(value, list) else str(value)


def _import(options: argparse.Namespace) -> None:
    from limpq_hub.interop import import_limpq_indicators, read_limpq_pickle

    check_outputs(options)
    read_limpq_pickle(options.pickle)  # before torch is imported, which takes seconds
    from limpq_hub.quant.profile import measure_costs
    from limpq_hub.zoo.meta_network import input_shape_of, network_on_meta
    from limpq_hub.zoo.timm_names import known_config

    known_config(options.model)
    if "." in options.model:
        architecture = options.model.partition(".")[0]
        raise UnknownModelError(f"{quoted(options.model)} names weights; give the architecture alone, {architecture}")
    network = network_on_meta(options.model, num_classes=options.num_classes, input_size=options.input_size)
    costs = measure_costs(network, input_shape_of(network))
    indicators = import_limpq_indicators(
        options.pickle,
        model=options.model,
        input_size=options.input_size,
        num_classes=options.num_classes,
        costs=costs,
    )
    indicators.save(options.output)
    if options.json:
        print_json({"output": str(options.output), "layers": len(costs), "candidates": indicators.candidates})
    search = shell_command("limpq", "search", options.output, "--bitops", first_budget(indicators))
    note(f"wrote {options.output}" + (f"; next: {search}" if is_replaced(options.output) else ""))
