"""The model card of an entry: what it is, how to use it, and what was measured of it. Nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limpq_hub.plan.frozen import FrozenMapping
from limpq_hub.plan.importance import OBJECTIVE_REASON, apart_words
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.quantities import format_bitops, format_size
from limpq_hub.zoo.card_commands import hub_dataset, quoted_command
from limpq_hub.zoo.entry import Entry, Published
from limpq_hub.zoo.factory_path import factory_of
from limpq_hub.zoo.float_file import float_file_of
from limpq_hub.zoo.hub import repository as hub
from limpq_hub.zoo.measurement import (
    accuracy_cell,
    float_label,
    float_measurement,
    float_size,
    joint_measurement,
    policy_measurement,
)

_TOP1 = "top-1, +/- one standard error"
TAGS = ("limpq", "quantization", "mixed-precision", "timm")


def render_card(
    entry: Entry,
    repo: str,
    *,
    license: str | None = None,
    base_model: str | None = None,
    stated: Mapping[str, Any] = FrozenMapping({}),
) -> str:
    """Return the text of the card.

    Args:
        repo: the repository that it is for, owner/name.
        license: identifier of the licence of the weights; not stated if None.
        base_model: Hub repository of the float network that the entry came from, if it is there.
        stated: what a card before this one stated of both, as fields of its front matter; `license` and `base_model`
            come in the place of that.

    Raises:
        ArtifactError: a file of the entry is damaged or malformed.
        HubError: the entry is on the Hub, which does not give a file of it.
    """
    front_matter: dict[str, Any] = {
        "library_name": hub.LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": [hub.LIBRARY, *TAGS],
    }
    typed = {"license": license, "base_model": base_model}
    kept = {key: value for key, value in stated.items() if not any(typed[of] for of in typed if key.startswith(of))}
    front_matter |= kept
    if license:
        front_matter["license"] = license
    dataset = hub_dataset(entry.indicators.provenance.get("command"))
    if dataset:
        front_matter["datasets"] = [dataset]
    if base_model:
        front_matter |= {"base_model": base_model, "base_model_relation": "quantized"}
    measured = [published for published in entry.published if published.top1 is not None]
    if measured:
        front_matter["model_name"] = repo.split("/")[-1]
    results = [_result(entry, published) for published in measured]
    return hub.card_text(front_matter, results, _body(entry, repo))


def _result(entry: Entry, published: Published) -> Mapping[str, Any]:
    measurement = policy_measurement(entry, published.name)
    arguments = {"images": measurement.images, "seed": measurement.seed}
    return {
        "task_type": "image-classification",
        "task_name": "Image classification",
        "dataset_type": hub_dataset(published.command) or measurement.data or "unknown",
        "dataset_name": measurement.data or "unknown",
        "dataset_split": measurement.split,
        "metric_type": "accuracy",
        "metric_name": f"top-1 in percent, policy {published.name}",
        "metric_value": published.top1,
        "metric_args": {key: value for key, value in arguments.items() if value is not None} or None,
    }


def _body(entry: Entry, repo: str) -> str:
    summary = entry.summary()
    size = f"{summary['input_size']} x {summary['input_size']}"
    names = [published.name for published in entry.published]
    factory = factory_of(summary["architecture"])
    imported, build, exports = "", "", "limpq export"
    if factory:  # no command takes one
        module, name = factory
        imported = "" if module == "__main__" else f"from {module} import {name}\n"  # a script cannot be imported from
        build, exports = f", build={name}", "limpq_hub.export"
    most = entry.published[-1].bitops if names else summary["maximum_bitops"]
    parts = [
        f"# {repo.split('/')[-1]}",
        f"Mixed-precision {summary['architecture']} at {size} pixels, {summary['num_classes']} classes: learned step "
        "sizes (LIMPQ, ECCV 2022), a jointly trained network that serves every policy, and policies that were "
        "fine-tuned. Networks run by fake quantization: accuracy and size on disk are real. Integers are multiplied by "
        '`load(..., arithmetic="integer")` and in the files of '
        f"`{exports}`, in 8 bits whatever the policy.",
        f'```python\nimport limpq_hub\n{imported}\nmodel = limpq_hub.load("hf-hub:{repo}", bitops={most}{build})\n'
        "print(model.limpq)\n```",
        _importance(entry.indicators),
        _policies(entry),
        *(f"![Bits per layer of policy {name}]({figure_of(name)})" for name in names),
        _joint(entry),
        _provenance(entry, repo),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def figure_of(policy_name: str) -> str:
    """Return the file of the picture of a policy's bits, inside the repository."""
    return f"figures/bits-{policy_name}.png"


def _importance(indicators: Indicators) -> str:
    """Return which importance the bits are chosen by, the paper's and the measured one beside it, and why."""
    chosen, by_learned = "the learned step sizes", '; by the sum of the step sizes with `importance="learned"`'
    by_measured = '; by measured pairs of bits with `importance="measured"`' if indicators.divergences else ""
    if indicators.objective == "measured":
        chosen = "the divergence from the float network that was measured with each layer alone at each pair of bits"
        others = by_learned
    elif indicators.objective == "coupled":
        chosen = (
            "the root of the sum of squares of the two learned step sizes of a layer at its bits, that of the weights "
            "times alpha"
        )
        others = by_learned + by_measured
    else:
        others = by_measured
    near = f", {apart_words(indicators.apart)}" if indicators.apart is not None else ""
    reason = indicators.provenance.get(OBJECTIVE_REASON)
    why = f" {reason}" if isinstance(reason, str) else ""
    return f"Bits are chosen by {chosen}{near}{others}.{why}"


def _policies(entry: Entry) -> str:
    of_float = accuracy_cell(entry.metrics.get("float", {}), float_measurement(entry))
    head = f"| weights | BitOps | size of the weights | on disk | {_TOP1} | measured on |"
    rows = [head, "|---|---|---|---|---|---|"]
    if of_float:
        size, measurement = float_size(entry), float_measurement(entry)
        rows.append(f"| {float_label(entry)} | - | {size} | - | {of_float} | {_cell(measurement)} |")
    for published in reversed(entry.published):
        measurement = policy_measurement(entry, published.name)
        accuracy = accuracy_cell(vars(published), measurement)
        cells = f"{accuracy} | {_cell(measurement)}" if accuracy else "not measured | -"
        costs = f"{format_size(published.size_bytes)} | {format_size(published.disk_bytes)}"
        rows.append(f"| fine-tuned: {published.name} | {format_bitops(published.bitops)} | {costs} | {cells} |")
    return "\n".join(rows) if len(rows) > 2 else ""


def _cell(content: object) -> str:
    """Return what a cell of a Markdown table is to show, on one line: names in it are what a data set is called."""
    return " ".join(str(content).split()).replace("\\", "\\\\").replace("|", "\\|")


def _joint(entry: Entry) -> str:
    front = entry.joint_records(calibrated=False)
    if not front:
        return ""
    measured = [(record, joint_measurement(entry, record)) for record in front]
    rows = [
        f"| {format_bitops(record['bitops'])} | {accuracy_cell(record, measurement)} | {_cell(measurement)} |"
        for record, measurement in measured
    ]
    head = "Any other budget is served from the jointly trained weights, without training:"
    return "\n".join([head, "", f"| BitOps | {_TOP1} | measured on |", "|---|---|---|", *rows])


def _provenance(entry: Entry, repo: str) -> str:
    commands = {"indicators and joint weights": entry.indicators.provenance.get("command")}
    trained, joint = float_measurement(entry).command, joint_measurement(entry, {}).command
    if float_file_of(entry.folder) and not factory_of(entry.indicators.model):
        # What trained the float network measured it before it was rounded to half precision.
        measures = f"accelerate launch -m limpq_hub.train.validate --model hf-hub:{repo} --weights float --data FOLDER"
        commands |= {f"{float_label(entry)}, top-1": measures}
        commands |= {"the float network": trained} if trained else {}
    elif trained:
        commands |= {"float32, top-1": trained}
    commands |= {"joint weights, top-1": joint} if joint else {}
    commands |= {f"{published.name}, weights and top-1": published.command for published in entry.published}
    lines = [f"- {name}: {quoted_command(command)}" for name, command in commands.items()]
    return "\n".join(["What came from which command:", "", *lines])
