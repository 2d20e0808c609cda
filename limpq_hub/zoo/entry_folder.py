"""An entry folder: one network's `indicators.json`, jointly trained `supernet.safetensors`, and its policies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError
from limpq_hub.plan.costs import FIXED_BITS, FLOAT
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import write_json
from limpq_hub.quant.convert import build_supernet
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.quant.quantizer import STEP_FLOOR
from limpq_hub.quant.tracing.forward_trace import Trace
from limpq_hub.zoo import checkpoint
from limpq_hub.zoo.anchors import ANCHOR_POLICIES, ANCHOR_STATISTICS
from limpq_hub.zoo.class_names import check_classes
from limpq_hub.zoo.entry_tensors import (
    SUPERNET,
    float_tensors,
    supernet_tensors,
    write_float_network,
    write_supernet,
)
from limpq_hub.zoo.float_file import FLOAT_FILE, GZIPPED_FLOAT_FILE, float_file_of
from limpq_hub.zoo.folder import SealedFolder, seal_folder
from limpq_hub.zoo.half_precision import halved_weight
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.network_title import network_title
from limpq_hub.zoo.plane_tensors import MOVED_FROM, has_moved_planes, has_planes
from limpq_hub.zoo.seal import BYTE_PLANES, HALF_CODING, MOVED_PLANES
from limpq_hub.zoo.storable import check_storable
from limpq_hub.zoo.tensors import load_strictly, own_state, step_names

KIND = "entry"
METRICS = "metrics.json"
# A weight that moved from the float network's is stored to 2^-9 of it, in a sixth fewer bytes; what that does was
# measured: training/results/resnet18.tiny_imagenet/six_bits/README.md, "Stored with fewer digits".
_WHOLE_PLACES = 4
FILES = (
    "indicators.json",
    SUPERNET,
    FLOAT_FILE,
    GZIPPED_FLOAT_FILE,
    "classes.json",
    METRICS,
    ANCHOR_STATISTICS,
    ANCHOR_POLICIES,
    "policies/*/config.json",
    *(f"policies/*/{file}" for file in checkpoint.FILES),
)


def save_entry(
    folder: Path,
    supernet: nn.Module,
    indicators: Indicators,
    classes: Sequence[Mapping[str, str]],
    *,
    unfinished: bool = False,
) -> None:
    """Write what joint training learned; convolution and linear weights in half precision, where that is exact enough.

    A float network that the folder holds by then (`save_float_network`) makes the file of the supernet smaller: weights
    that moved from it are stored to 2^-9 of each. Figures and anchors of an entry that was there go; its policies stay.

    Args:
        indicators: of the same network, at the same input size and with as many classes.
        classes: {"id", "name"} of each class, in the order of the class indices.
        unfinished: as `seal_entry` takes it.

    Raises:
        UnsupportedLayerError: no artifact can hold the network, or a tensor has a value that is not finite; nothing is
            written.
        ArtifactFormatError: the indicators or the classes are not those of the network, or two classes have one id;
            nothing is written.
    """
    spec, state = NetworkSpec.of(supernet), _halved(supernet)
    spec.check_storable()
    state |= {name: state[name].clamp_min(STEP_FLOOR) for name in step_names(supernet) & state.keys()}
    check_storable(supernet, state)
    described = _described(indicators)
    if described != (spec.architecture, spec.input_size, spec.num_classes):
        raise ArtifactFormatError(
            f"the indicators are of {network_title(*described, {})}, the network is {spec.title}: give those that were "
            "read from it"
        )
    check_classes(list(classes), spec.num_classes, "classes")
    write_supernet(folder, state, whole_places=_WHOLE_PLACES)
    # Of a network that was here before: they would be told of this one.
    for measured in (METRICS, ANCHOR_POLICIES, ANCHOR_STATISTICS):
        (folder / measured).unlink(missing_ok=True)
    indicators.save(folder / "indicators.json")
    write_json(folder / "classes.json", list(classes))
    seal_entry(folder, spec, unfinished=unfinished)


def save_float_network(folder: Path, network: nn.Module) -> None:
    """Write the float network that an entry came from, not sealed; weights in half precision, as `save_entry` does.

    A supernet that moved from another one in the folder is to be saved again after it.

    Raises:
        UnsupportedLayerError: no artifact can hold the network, or a tensor has a value that is not finite; nothing is
            written.
    """
    NetworkSpec.of(network).check_storable()
    state = _halved(network)
    check_storable(network, state)
    write_float_network(folder, state)


def seal_entry(folder: Path, spec: NetworkSpec, *, unfinished: bool = False) -> None:
    """Write the `config.json` of an entry folder over all files that it holds.

    Args:
        unfinished: whether more is to come, so that nobody but its maker is to open it.

    Raises:
        ArtifactIntegrityError: the supernet moved from another float network than the folder holds; nothing is written.
        ArtifactFormatError: as `seal_folder`.
    """
    data = Indicators.load(folder / "indicators.json").provenance.get("data")
    dataset = {"dataset": data["name"]} if isinstance(data, Mapping) and "name" in data else {}
    coding = _half_coding(folder)
    config = spec.to_config() | dataset | ({HALF_CODING: coding} if coding else {})
    seal_folder(folder, KIND, config, FILES, unfinished=unfinished)


def load_supernet(folder: SealedFolder, indicators: Indicators) -> nn.Module:
    """Return the jointly trained supernet of an entry in eval mode.

    Args:
        indicators: those of the same folder.

    Raises:
        ArtifactError: a file is damaged, or does not fit the network; nothing is half-loaded.
    """
    spec, name = NetworkSpec.from_config(folder.config, folder.name), f"{folder.name}/{SUPERNET}"
    tensors = supernet_tensors(folder)
    module = spec.build()
    traced = check_costs(indicators, spec, module, folder.name)
    supernet = build_supernet(
        module,
        indicators.costs,
        indicators.candidates,
        spec.input_shape,
        per_channel=indicators.per_channel,
        traced=traced,
    )
    load_strictly(supernet, tensors, name)
    for layer_name, layer in quantized_layers(supernet):
        quantizer = layer.activation_quantizer
        for bits in quantizer.candidates:
            if not 0 <= quantizer.zero_point_of(bits) <= 2 ** (bits - 1):
                raise ArtifactFormatError(
                    f"{name}: the zero point of layer {layer_name} at {bits} bits must lie in 0..{2 ** (bits - 1)}, "
                    f"found {quantizer.zero_point_of(bits)}"
                )
    return supernet.eval()


def load_float_network(folder: SealedFolder) -> nn.Module:
    """Return the float network that an entry came from, in eval mode.

    Raises:
        UnknownModelError: the entry holds none.
        ArtifactError: the file is damaged, or does not fit the network.
    """
    tensors = float_tensors(folder)
    network = NetworkSpec.from_config(folder.config, folder.name).build()
    load_strictly(network, tensors, f"{folder.name}/{float_file_of(folder)}")
    return network.eval()


def check_costs(indicators: Indicators, spec: NetworkSpec, module: nn.Module, name: str) -> Trace:
    """Return what one image shows of a network, once the indicators describe exactly its layers.

    Raises:
        ArtifactIntegrityError: they do not.
    """
    described = _described(indicators)
    if described != (spec.architecture, spec.input_size, spec.num_classes):
        raise ArtifactIntegrityError(
            f"{name}/indicators.json is for {described[0]} at {described[1]} pixels with {described[2]} classes, its "
            f"config.json for {spec.architecture} at {spec.input_size} pixels with {spec.num_classes}"
        )
    costs = indicators.costs
    counted, traced = spec.recount(
        module,
        signed={layer for layer, cost in costs.items() if cost.signed},
        offset={layer for layer, cost in costs.items() if cost.offset},
        in_float=[layer for layer, cost in costs.items() if cost.fixed == FLOAT],
        fixed=[layer for layer, cost in costs.items() if cost.fixed == FIXED_BITS],
    )
    for layer in [*counted, *costs]:
        described_cost, cost = costs.get(layer), counted.get(layer)
        if cost and described_cost and described_cost.inputs == traced.operations[layer].padded_inputs:
            cost = replace(cost, inputs=described_cost.inputs)  # as versions before counted, the padding included
        if cost != described_cost:
            raise ArtifactIntegrityError(
                f"{name}/indicators.json does not fit {spec.architecture} at {spec.input_size} pixels: layer {layer} "
                f"is {described_cost} there, a recount gives {cost}"
            )
    return traced


def _described(indicators: Indicators) -> tuple[str, int, int]:
    """Return which network indicators are of: architecture, input size and number of classes."""
    return indicators.model, indicators.input_size, indicators.num_classes


def _half_coding(folder: Path) -> str | None:
    """Return how the networks of an entry are coded, None where versions before format 5 can read its files."""
    with safe_open(folder / SUPERNET, "numpy") as file:
        names = list(file.keys())
        moved_from = file.get_tensor(MOVED_FROM).tobytes().hex() if MOVED_FROM in names else None
    in_float = folder / FLOAT_FILE
    if not has_moved_planes(names):
        return BYTE_PLANES if has_planes(names) or in_float.exists() else None
    if not in_float.exists() or hashlib.sha256(in_float.read_bytes()).hexdigest() != moved_from:
        now = "another one lies there now" if in_float.exists() else "which is gone"
        raise ArtifactIntegrityError(
            f"{folder / SUPERNET} cannot be read without the {FLOAT_FILE} that it was written beside; {now}: bring it "
            "back, or call save_float_network and then save_entry"
        )
    return MOVED_PLANES


def _halved(network: nn.Module) -> dict[str, Tensor]:
    steps = step_names(network)
    return {
        name: halved_weight(value) if value.ndim > 1 and value.is_floating_point() and name not in steps else value
        for name, value in own_state(network).items()
    }
