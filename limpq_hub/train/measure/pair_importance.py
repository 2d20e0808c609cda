"""Measured importance of an entry: the KL divergence that each pair of bits of each layer causes, without labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from limpq_hub.errors import ArtifactFormatError, DataError, PolicyError, quoted
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.jsonfile import check_shape, read_json, write_json
from limpq_hub.plan.layer_bits import BIT_WIDTHS, LayerBits
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.batch_norm_moments import none_alone
from limpq_hub.quant.calibrate import start_steps_
from limpq_hub.quant.convert import build_supernet
from limpq_hub.quant.pair_divergence import pair_divergences
from limpq_hub.quant.tracing.forward_trace import copy_of
from limpq_hub.train.measure.measured_divergence import measured_divergence
from limpq_hub.train.measure.pair_costs import costs_of_text, costs_to_text
from limpq_hub.train.measure.usual_pairs import MeasuredWeights
from limpq_hub.train.weights.fetched_weights import network_content
from limpq_hub.version import __version__
from limpq_hub.zoo.anchors import statistics_of_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import load_float_network, load_supernet
from limpq_hub.zoo.entry_tensors import SUPERNET
from limpq_hub.zoo.float_file import FLOAT_FILE, GZIPPED_FLOAT_FILE
from limpq_hub.zoo.network import NetworkSpec


@dataclass(frozen=True)
class Measuring:
    """The inputs of a measurement; those with the same digest and sizes of batches have the same result.

    The same on the same CPU or GPU: other kernels add up in another order, which moved pairs of 100 images by 1.5 % at
    most (training/results/resnet18.tiny_imagenet/proof.md).

    Attributes:
        entry: the network.
        images: unlabelled, [batch, 3, height, width] each, normalized. Where statistics are corrected, those of each
            batch are: other batches of the same images give another result.
        weights: which weights the layers have.
        others: the most bits that all other layers may have, of weights and activations; None for float.
        float_network: in eval mode, in place of the one that the entry holds, and left as it is; None for that one.

    Raises:
        PolicyError: there are no such weights or bits.
        DataError: the statistics of the entry are corrected, and there is one image, or none.
    """

    entry: Entry
    images: Sequence[Tensor]
    weights: MeasuredWeights
    others: int | None
    float_network: nn.Module | None = None

    def __post_init__(self) -> None:
        if self.weights not in get_args(MeasuredWeights):
            raise PolicyError(f'weights={quoted(self.weights)} cannot be measured: use "float" or "joint"')
        if self.others is not None and self.others not in BIT_WIDTHS:
            raise PolicyError(f"others={quoted(self.others)} cannot be: use bits from 2 to 8, or None for float")
        given = sum(map(len, self.images))
        if self.corrected and given < 2:
            raise DataError(f"{self.entry.name} corrects its BatchNorm by two images or more, {given} given; give more")

    def digest(self) -> str:
        """Return a sha256 over both networks, the bits of their layers, what is measured of them, and the images.

        How the entry came about, and what was fine-tuned from it, changes nothing.
        """
        listed, indicators = self.entry.folder.config["files"], self.entry.indicators
        networks = {
            file: listed[file]["sha256"] for file in (SUPERNET, FLOAT_FILE, GZIPPED_FLOAT_FILE) if file in listed
        }
        if self.float_network is not None:
            networks |= {FLOAT_FILE: network_content(self.float_network)}
        costs = {name: asdict(cost) for name, cost in indicators.costs.items()}
        steps = (indicators.weight_steps, indicators.activation_steps)
        candidates = [{name: sorted(of_layer) for name, of_layer in of_kind.items()} for of_kind in steps]
        title = NetworkSpec.from_config(self.entry.folder.config, self.entry.name).title
        of_what = (
            title,
            networks,
            costs,
            candidates,
            indicators.per_channel,
            self.weights,
            self.others,
            self.corrected,
        )
        digest = hashlib.sha256(json.dumps(of_what, sort_keys=True).encode())
        for images in self.images:
            digest.update(images.cpu().numpy().tobytes())
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the images are, and the networks are measured."""
        return self.images[0].device

    @property
    def corrected(self) -> bool:
        """Whether policies of the entry have the float network's BatchNorm statistics, moved by what they change."""
        return statistics_of_entry(self.entry.folder) == "corrected"

    def reference(self) -> nn.Module:
        """Return the float network where the images are, a copy of one that was given."""
        given = self.float_network
        network = load_float_network(self.entry.folder) if given is None else copy_of(given)
        return network.to(self.device)

    def network(self) -> tuple[nn.Module, Policy | None]:
        """Return the network whose layers are measured, where the images are; and the bits of the others, or None."""
        folder, indicators = self.entry.folder, self.entry.indicators
        others = None if self.others is None else self._policy_of_others(self.others)
        if self.weights == "joint":
            return load_supernet(folder, indicators).to(self.device), others
        supernet = build_supernet(
            self.reference(),
            indicators.costs,
            indicators.candidates,
            NetworkSpec.from_config(folder.config, self.entry.name).input_shape,
            per_channel=indicators.per_channel,
        )
        start_steps_(supernet, torch.cat(list(self.images)), "least-error")
        return supernet, others

    def _policy_of_others(self, most: int) -> Policy:
        """Return the policy of the other layers: each at its most bits up to `most`, at its fewest if it has none."""
        indicators = self.entry.indicators

        def widest(steps: Mapping[int, float]) -> int:
            """Return the most of these bits that are at most `most`, else the fewest of all."""
            return max((bits for bits in steps if bits <= most), default=min(steps))

        layers = {
            name: cost.fixed
            or LayerBits(widest(indicators.weight_steps[name]), widest(indicators.activation_steps[name]))
            for name, cost in indicators.costs.items()
        }
        return Policy(indicators.model, layers, indicators.input_size)


def measured_indicators(
    measuring: Measuring, progress_file: Path, *, tell: Callable[[int, int], None] = lambda done, total: None
) -> Indicators:
    """Return the indicators of the entry with the divergence of each pair; the objective stays.

    Args:
        progress_file: JSON, written after each layer; a measurement of the same that was cut off goes on from it.
            Remove it once what is returned is saved.
        tell: called with how many layers are measured, and of how many.

    Raises:
        UnknownModelError: the entry holds no float network.
        ArtifactError: a file of it is damaged.
        TrainingError: the predictions are no numbers.
    """
    indicators, digest = measuring.entry.indicators, measuring.digest()
    same = {"digest": digest, "batches": [len(images) for images in measuring.images], "version": __version__}
    divergences = _measured_before(progress_file, same)
    layers = list(indicators.weight_steps)
    tell(len(divergences), len(layers))
    for name, of_pairs in measured_layers(measuring, [name for name in layers if name not in divergences]):
        divergences |= costs_to_text({name: of_pairs})
        write_json(progress_file, {**same, "divergences": divergences})
        tell(len(divergences), len(layers))
    pairs = costs_of_text({name: divergences[name] for name in layers})
    images = sum(map(len, measuring.images))
    how = {"weights": measuring.weights, "others": measuring.others, "images": images, "sha256": digest}
    provenance = dict(indicators.provenance) | {"divergences": how}
    return replace(indicators, divergences=pairs, provenance=provenance)


def measured_layers(measuring: Measuring, layers: Sequence[str]) -> Iterator[tuple[str, dict[LayerBits, float]]]:
    """Yield the divergence of each pair of bits of one layer after the other, in nats, at least 0.

    Raises:
        UnknownModelError: the entry holds no float network.
        ArtifactError: a file of it is damaged.
        TrainingError: the predictions are no numbers.
    """
    if not layers:
        return
    network = measuring.reference()
    # A single image has no spread to correct by.
    batches = list(none_alone(measuring.images)) if measuring.corrected else measuring.images
    with torch.no_grad():
        references = [network(images).log_softmax(-1) for images in batches]
    supernet, others = measuring.network()
    measured = pair_divergences(
        supernet,
        batches,
        references,
        background=others,
        layers=layers,
        matched_to=network if measuring.corrected else None,
    )
    for name, of_pairs in measured:
        yield name, {bits: measured_divergence(nats, f"{name} at {bits.text}") for bits, nats in of_pairs.items()}


def _measured_before(path: Path, same: Mapping[str, object]) -> dict[str, Mapping[str, float]]:
    """Return what a measurement of the same, by the same version, left behind.

    Raises:
        ArtifactFormatError: it is of another measurement.
    """
    if not path.is_file():
        return {}
    content: Any = read_json(path)
    check_shape(content, {"digest": str, "divergences": dict}, str(path))
    if any(content.get(key) != value for key, value in same.items()):
        raise ArtifactFormatError(
            f"{path} is of another measurement: other pictures or batches, another entry, other weights or another "
            "version of limpq-hub; remove it to begin anew"
        )
    return dict(content["divergences"])
