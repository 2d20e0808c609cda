"""BatchNorm statistics of a few anchor policies, so that joint weights serve any budget without images at hand.

The statistics that joint training leaves behind are mostly those of uniform bit-widths; a mixed policy needs its
own. An entry therefore holds statistics measured under anchor policies over the whole range of budgets, and `load`
takes for each batch normalization those of the nearest anchor. They are measured on images, or, where joint training
kept the statistics of the float network, these, corrected for what quantization changed on the images.

`anchors.json` lists the policies. In `anchors.safetensors` each statistic has a row for each of them, [anchors,
channels], large ones in planes of bytes; in format 1 each row was a tensor of its own, "INDEX.NAME".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from limpq_hub.errors import ArtifactFormatError, ArtifactVersionError, quoted
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.input_file import TEXT_BYTES
from limpq_hub.plan.jsonfile import check_shape, errors_naming, json_text, write_json
from limpq_hub.plan.optimum import search
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import select_policy
from limpq_hub.quant.policy_statistics import Statistics, statistics_setter
from limpq_hub.quant.running_statistics import active_batch_norms
from limpq_hub.zoo.entry_tensors import with_numbers, write_in_planes
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.half_precision import halved_statistics
from limpq_hub.zoo.storable import check_storable
from limpq_hub.zoo.tensors import load_strictly, own_state, tensors_from_bytes, tensors_to_bytes

FORMAT = 2
_READ_FORMATS = range(1, FORMAT + 1)
ANCHOR_STATISTICS = "anchors.safetensors"
ANCHOR_POLICIES = "anchors.json"
_MEAN, _VARIANCE = "running_mean", "running_var"
_HEADER_BYTES = 2**24
_MOST_STEPS = 1000  # into which the range of budgets is divided at the finest
# Of the policies; the rest is for what else `anchors.json` holds.
_MOST_TEXT_BYTES = TEXT_BYTES - 2**20


def anchor_policies(indicators: Indicators, gap: int) -> list[Policy]:
    """Return the uniform policy at each candidate, and others along the frontier, neighbours at most `gap` bits apart.

    Where the frontier itself leaps, neighbours are further apart; so they are in a network of so many layers that
    `anchors.json` would hold more text than is read.

    Args:
        gap: bits by which two policies differ, over all layers.
    """
    model, costs, size = indicators.model, indicators.costs, indicators.input_size
    uniform = [Policy.uniform(model, costs, bits, bits, size) for bits in indicators.candidates]
    least, most = indicators.bitops_range()
    finest = max(1, (most - least) // _MOST_STEPS)

    @cache
    def best(bitops: int) -> Policy:
        """Return the policy on the frontier at a budget of BitOps."""
        return search(indicators, Budget(bitops=bitops)).policy

    def between(low: int, high: int, gap: int) -> list[Policy]:
        """Return the anchors between those at two budgets, halving the budgets until `gap` bits lie between."""
        if high - low <= finest or _distance(best(low), best(high)) <= gap:
            return []
        middle = (low + high) // 2
        return [*between(low, middle, gap), best(middle), *between(middle, high, gap)]

    while True:
        policies = {one.digest(): one for one in (*uniform, best(least), *between(least, most, gap), best(most))}
        text_bytes = len(json_text({"policies": [policy.to_json() for policy in policies.values()]}))
        if text_bytes <= _MOST_TEXT_BYTES or len(policies) <= len(uniform) + 2:
            return list(policies.values())
        gap *= 2


def save_anchors(
    folder: Path,
    supernet: nn.Module,
    policies: Iterable[Policy],
    batches: Sequence[Tensor],
    corrected_from: nn.Module | None = None,
    kept: Path | None = None,
    *,
    record: Mapping[str, object] | None = None,
) -> None:
    """Write the BatchNorm statistics of `supernet` under each policy; nothing without BatchNorm.

    In half precision, where that is exact enough.

    Args:
        batches: unlabelled images, [batch, 3, height, width], normalized.
        corrected_from: the float network whose statistics, corrected for the policy, are written; if None, those of
            the images are.
        kept: folder in which the statistics of each policy are kept as they are measured; those that are in it, of the
            same networks and images, are not measured again.
        record: along which search the policies lie, and how the statistics came about, for `anchors.json`.

    Raises:
        UnsupportedLayerError: a statistic is not finite under a policy; the folder stays as it is.
    """
    rows: list[dict[str, Tensor]] = []
    measured = []
    kind: Statistics = "measured" if corrected_from is None else "corrected"
    # Measured ones need no float network.
    set_statistics_ = statistics_setter(kind, batches, supernet if corrected_from is None else corrected_from)
    for policy in policies:
        measured.append(policy.to_json())
        file = kept and kept / f"{policy.digest()}.safetensors"
        if file and file.exists():
            statistics = tensors_from_bytes(file.read_bytes(), str(file))
        else:
            network = select_policy(supernet, policy)
            set_statistics_(network)
            statistics = _halved_statistics(network)
            check_storable(network, statistics)
            if file:
                write_bytes(file, tensors_to_bytes(statistics))
        rows.append(statistics)
    if any(rows):
        _write_statistics(folder, rows)
        # Versions before this one know measured ones alone, and no such key.
        described = {} if corrected_from is None else {"statistics": kind}
        write_json(folder / ANCHOR_POLICIES, {"format": FORMAT, **described, **(record or {}), "policies": measured})


def recode_anchors(source: SealedFolder, target: Path) -> None:
    """Write the statistics of an entry's anchors anew, the same numbers in fewer bytes; not sealed.

    Args:
        source: an entry of any format that this version reads.
        target: a copy of its files.

    Raises:
        ArtifactError: a file is damaged.
    """
    if ANCHOR_POLICIES not in source.files:
        return
    content = _content(source)
    if content["format"] == FORMAT:
        return
    name = f"{source.name}/{ANCHOR_STATISTICS}"
    tensors = tensors_from_bytes(source.read(ANCHOR_STATISTICS), name)
    names = [key.removeprefix("0.") for key in tensors if key.startswith("0.")]
    rows = [{key: _row(tensors, index, key, 1, name) for key in names} for index in range(len(content["policies"]))]
    if not any(rows) or len(tensors) != len(rows) * len(names):
        raise ArtifactFormatError(f"{name} does not hold the same statistics of every anchor; {source.advice}")
    for key, value in rows[0].items():
        if any(row[key].shape != value.shape for row in rows):
            raise ArtifactFormatError(f"{name}: tensor {key} has another shape at another anchor; {source.advice}")
    _write_statistics(target, rows)
    write_json(target / ANCHOR_POLICIES, content | {"format": FORMAT})


def statistics_of_entry(folder: SealedFolder) -> Statistics:
    """Return which BatchNorm statistics an entry serves its joint weights with.

    Raises:
        ArtifactError: its anchors are damaged.
    """
    if ANCHOR_POLICIES not in folder.files:
        return "kept"
    stored = _content(folder).get("statistics", "measured")
    kinds: tuple[Statistics, ...] = get_args(Statistics)
    for kind in kinds:
        if kind == stored:
            return kind
    raise ArtifactFormatError(
        f"{folder.name}/{ANCHOR_POLICIES}: statistics {quoted(stored)} is not {' or '.join(map(repr, kinds))}; "
        f"{folder.advice}"
    )


def search_of_anchors(folder: SealedFolder) -> dict[str, Any] | None:
    """Return the `search_record` of the search along which the anchors of an entry lie; None where it has none.

    Of those that tell of no search it is that of the joint training, which is by learned step sizes.

    Raises:
        ArtifactError: the anchors are damaged.
    """
    if ANCHOR_POLICIES not in folder.files:
        return None
    search = _content(folder).get("search", {})
    check_shape(search, {}, f"{folder.name}/{ANCHOR_POLICIES}: search")
    return {"objective": "learned", "apart": None} | search


def apply_nearest_anchors_(network: nn.Module, policy: Policy, folder: SealedFolder, feeds: Mapping[str, str]) -> None:
    """Give each BatchNorm of a network from `select_policy` the statistics of the nearest anchor.

    Among the anchors that come nearest in the weight bits of the layer before it, that is the one whose bits differ
    least from `policy` over all layers: the scale of a layer's output changes with its weight bits.

    Leaves the network alone if the entry has no anchors.

    Args:
        feeds: by the name of a batch normalization, the layer whose output it takes; see `switching_norms`.

    Raises:
        ArtifactError: a file is damaged, or does not fit the network.
    """
    if ANCHOR_POLICIES not in folder.files:
        return
    name, content = f"{folder.name}/{ANCHOR_POLICIES}", _content(folder)
    with errors_naming(name):
        anchors = [Policy.from_json(anchor) for anchor in content["policies"]]
    if not anchors or any(set(anchor.layers) != set(policy.layers) for anchor in anchors):
        raise ArtifactFormatError(f"{name}: no anchors for the layers of this network; {folder.advice}")
    name = f"{folder.name}/{ANCHOR_STATISTICS}"
    listed = folder.listed_bytes(ANCHOR_STATISTICS)
    state, layers = own_state(network), _normalized_layers(network, feeds)
    count = len(anchors) * sum(state[key].numel() for key in layers)
    if listed > 4 * count + _HEADER_BYTES:
        raise ArtifactFormatError(f"{name} of {listed:,} bytes holds more than {count:,} numbers; {folder.advice}")
    tensors = with_numbers(tensors_from_bytes(folder.read(ANCHOR_STATISTICS), name), name)
    for key, layer in layers.items():
        nearest = _nearest(anchors, policy, layer)
        state[key] = _row(tensors, nearest, key, content["format"], name)
    load_strictly(network, state, name)


def _write_statistics(folder: Path, rows: Sequence[Mapping[str, Tensor]]) -> None:
    """Write the statistics of each anchor; those that one anchor needs in single precision are so of all."""
    stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    write_in_planes(folder / ANCHOR_STATISTICS, stacked)


def _row(tensors: Mapping[str, Tensor], index: int, name: str, format_number: int, file: str) -> Tensor:
    """Return a statistic of an anchor, [channels], out of the tensors of a file of a format."""
    key = f"{index}.{name}" if format_number == 1 else name
    if key not in tensors:
        raise ArtifactFormatError(f"{file}: tensor {key} is missing")
    if format_number == 1:
        return tensors[key]
    if tensors[key].ndim != 2 or len(tensors[key]) <= index:
        raise ArtifactFormatError(f"{file}: tensor {key} has no row {index}, found {list(tensors[key].shape)}")
    return tensors[key][index]


def _nearest(anchors: Sequence[Policy], policy: Policy, layer: str | None) -> int:
    """Return the index of the anchor that is nearest to `policy`, for the batch normalization behind `layer`."""

    def distance(index: int) -> tuple[int, int]:
        """Return how far an anchor is: in weight bits of `layer`, then in bits over all layers."""
        anchor = anchors[index]
        at_layer = abs(anchor.layers[layer].weight - policy.layers[layer].weight) if layer else 0
        return at_layer, _distance(anchor, policy)

    return min(range(len(anchors)), key=distance)


def _content(folder: SealedFolder) -> dict[str, Any]:
    """Return what `anchors.json` holds, its policies not yet read."""
    name, content = f"{folder.name}/{ANCHOR_POLICIES}", folder.read_json(ANCHOR_POLICIES)
    check_shape(content, {"format": int, "policies": [dict]}, name)
    if content["format"] not in _READ_FORMATS:
        raise ArtifactVersionError(
            f"{name}: format {content['format']} is not one of the formats 1 to {FORMAT} that this version reads; "
            f"upgrade limpq-hub, or {folder.advice}"
        )
    fields: dict[str, Any] = content
    return fields


def _normalized_layers(network: nn.Module, feeds: Mapping[str, str]) -> dict[str, str | None]:
    """Return, by the name of each statistic of a network's BatchNorms, the layer that its BatchNorm takes, or None."""
    return {f"{name}.{key}": feeds.get(name) for name in active_batch_norms(network) for key in (_MEAN, _VARIANCE)}


def _halved_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return the statistics of the BatchNorms of a network in half precision, where that is exact enough."""
    halved: dict[str, Tensor] = {}
    for name, norm in active_batch_norms(network).items():
        # Those that were kept are read on the CPU.
        mean, variance = (norm.get_buffer(key).cpu() for key in (_MEAN, _VARIANCE))
        halved[f"{name}.{_MEAN}"], halved[f"{name}.{_VARIANCE}"] = halved_statistics(mean, variance, norm.eps)
    return halved


def _distance(first: Policy, second: Policy) -> int:
    """Return by how many bits two policies for the same layers differ."""
    return sum(
        abs(bits.weight - second.layers[name].weight) + abs(bits.activation - second.layers[name].activation)
        for name, bits in first.layers.items()
    )
