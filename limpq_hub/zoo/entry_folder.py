"""An entry folder: one network's `indicators.json`, jointly trained `supernet.safetensors`, and its policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from limpq_hub.zoo.plane_tensors import has_moved_planes, has_planes
from limpq_hub.zoo.seal import BYTE_PLANES, HALF_CODING, MOVED_PLANES
from limpq_hub.zoo.storable import check_storable
from limpq_hub.zoo.tensors import load_strictly, own_state, step_names

KIND = "entry"
# A weight that moved from the float network's is stored to 2^-9 of it, in a sixth fewer bytes; what that does was
# measured: training/results/resnet18.tiny_imagenet/six_bits/README.md, "Stored with fewer digits".
_WHOLE_PLACES = 4
FILES = (
    "indicators.json",
    SUPERNET,
    FLOAT_FILE,
    GZIPPED_FLOAT_FILE,
    "classes.json",
    "metrics.json",
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
    that moved from it are stored to 2^-9 of each.

    Args:
        classes: {"id", "name"} of each class, in the order of the class indices.
        unfinished: as `seal_entry` takes it.

    Raises:
        UnsupportedLayerError: a tensor has a value that is not finite; nothing is written.
    """
    spec, state = NetworkSpec.of(supernet), _halved(supernet)
    state |= {name: state[name].clamp_min(STEP_FLOOR) for name in step_names(supernet) & state.keys()}
    check_storable(supernet, state)
    write_supernet(folder, state, whole_places=_WHOLE_PLACES)
    indicators.save(folder / "indicators.json")
    write_json(folder / "classes.json", list(classes))
    seal_entry(folder, spec, unfinished=unfinished)


def save_float_network(folder: Path, network: nn.Module) -> None:
    """Write the float network that an entry came from, not sealed; weights in half precision, as `save_entry` does.

    Raises:
        UnsupportedLayerError: a tensor has a value that is not finite; nothing is written.
    """
    state = _halved(network)
    check_storable(network, state)
    write_float_network(folder, state)


def seal_entry(folder: Path, spec: NetworkSpec, *, unfinished: bool = False) -> None:
    """Write the `config.json` of an entry folder over all files that it holds.

    Args:
        unfinished: whether more is to come, so that nobody but its maker is to open it.
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
    described = (indicators.model, indicators.input_size, indicators.num_classes)
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
    for layer in [*counted, *indicators.costs]:
        if counted.get(layer) != indicators.costs.get(layer):
            raise ArtifactIntegrityError(
                f"{name}/indicators.json does not fit {spec.architecture} at {spec.input_size} pixels: layer {layer} "
                f"is {indicators.costs.get(layer)} there, a recount gives {counted.get(layer)}"
            )
    return traced


def _half_coding(folder: Path) -> str | None:
    """Return how the networks of an entry are coded, None where versions before format 5 can read its files."""
    with safe_open(folder / SUPERNET, "numpy") as file:
        names = list(file.keys())
    if has_moved_planes(names):
        return MOVED_PLANES
    return BYTE_PLANES if has_planes(names) or (folder / FLOAT_FILE).exists() else None


def _halved(network: nn.Module) -> dict[str, Tensor]:
    steps = step_names(network)
    return {
        name: halved_weight(value) if value.ndim > 1 and value.is_floating_point() and name not in steps else value
        for name, value in own_state(network).items()
    }
