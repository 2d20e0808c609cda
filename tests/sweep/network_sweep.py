"""One network of each of timm's families, through all that is done to a network: does it work, and how well?

    python tests/sweep/network_sweep.py --output training/results/timm_networks.md

Random weights and pictures of noise: what the networks would recognise does not matter here.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import timm
import torch
from accelerate import Accelerator
from families import FAMILIES, Sample
from rich.progress import track
from torch import Tensor, nn

from limpq_hub.errors import LimpqError
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.quant.calibrate import calibrate_steps_
from limpq_hub.quant.convert import architecture_of, to_quantized, to_supernet
from limpq_hub.quant.network_check import NetworkCheck, check_network
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies
from limpq_hub.zoo.checkpoint import KIND, load_checkpoint, save_checkpoint
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.meta_network import network_on_meta
from limpq_hub.zoo.timm_network import timm_network

CLASSES, BATCH, CANDIDATES = 10, 2, (4, 2)
# Pictures that normalizations get their statistics from; of two alone they would blow up whatever hardly varies.
STATISTICS = 16
# Networks of more parameters, in millions, are counted only: copies of them fill the memory of a small machine.
LARGEST = 200.0


@dataclass(frozen=True)
class CountedNetwork:
    """What a check finds of one network.

    Attributes:
        layers, products: how many have bits of their own, the fixed ones included.
        macs: multiply-accumulates of one image.
        counts_agree: whether PyTorch's flop counter counts as many.
        searched_share: of the multiply-accumulates, 0..1.
        in_float: what stays in float besides normalizations.
    """

    layers: int
    products: int
    macs: int
    counts_agree: bool
    searched_share: float
    in_float: tuple[str, ...]

    @classmethod
    def of(cls, check: NetworkCheck) -> CountedNetwork:
        """Return the figures of a check."""
        return cls(
            layers=len(check.of_kind("convolution")) + len(check.of_kind("linear")),
            products=len(check.of_kind("product")),
            macs=check.macs,
            counts_agree=check.agrees,
            searched_share=sum(check.costs[name].macs for name in check.searched) / check.macs,
            in_float=tuple(check.of_kind("float")),
        )


@dataclass(frozen=True)
class SweptNetwork:
    """What all steps of a sweep find of one network.

    Attributes:
        counted: what the check finds.
        cosine: of the logits at 8/8 bits to those in float, the smallest of the batch.
        steps: number of step sizes of what is searched.
        steps_without_gradient: names of those that got none in a joint step, or one that is not finite.
        reloaded_equal: whether the network gives the same logits after it was saved and loaded.
        seconds: of the whole.
    """

    counted: CountedNetwork
    cosine: float
    steps: int
    steps_without_gradient: tuple[str, ...]
    reloaded_equal: bool
    seconds: float


def counted(name: str, input_size: int) -> CountedNetwork:
    """Count a network.

    Raises:
        LimpqError: it is refused.
    """
    network = network_on_meta(name, num_classes=CLASSES, input_size=input_size)
    return CountedNetwork.of(check_network(network, (3, input_size, input_size)))


def sweep(name: str, input_size: int) -> SweptNetwork:
    """Convert, count, calibrate, train one step, save and load a network with random weights.

    Raises:
        LimpqError: it is refused.
    """
    start = time.perf_counter()
    network, images = network_and_images(name, input_size)
    check = check_network(network, images.shape[1:])
    policy = Policy.uniform(architecture_of(network), check.costs, 8)
    quantized = to_quantized(network, policy, example_input=images).eval()
    calibrate_steps_(quantized, [layer for layer, _ in quantized_layers(quantized)], [images])
    with torch.no_grad():
        float_logits, logits = network(images), quantized(images)
    with_gradient, without_gradient = steps_after_joint_step(network, images, check)
    return SweptNetwork(
        counted=CountedNetwork.of(check),
        cosine=float(nn.functional.cosine_similarity(float_logits, logits).min()),
        steps=len(with_gradient) + len(without_gradient),
        steps_without_gradient=tuple(without_gradient),
        reloaded_equal=torch.equal(logits, logits_after_reload(quantized, check, images)),
        seconds=round(time.perf_counter() - start, 1),
    )


def network_and_images(name: str, input_size: int) -> tuple[nn.Module, Tensor]:
    """Return a network with random weights in eval mode, and a batch of noise, [batch, 3, height, width].

    What starts at nothing so that training starts gently (last normalization of a block, layer scale) is drawn at
    random, and normalizations get the statistics of the noise: otherwise most of the network would do nothing.
    """
    torch.manual_seed(0)
    network = timm_network(name, input_size=input_size, pretrained=False, num_classes=CLASSES)
    images = torch.randn(BATCH, 3, input_size, input_size)
    for parameter in network.parameters():
        if parameter.abs().max() < 1e-3:
            nn.init.normal_(parameter, mean=0.0 if parameter.ndim > 1 else 0.5, std=0.02)
    recalibrate_batch_norm_(network, [torch.cat([images, torch.randn(STATISTICS - BATCH, *images.shape[1:])])])
    return network.eval(), images


def steps_after_joint_step(network: nn.Module, images: Tensor, check: NetworkCheck) -> tuple[list[str], list[str]]:
    """Return which steps of what is searched get a finite gradient in a joint step, and which do not."""
    supernet = to_supernet(network, CANDIDATES, example_input=images).train()
    policies = joint_policies(architecture_of(network), check.costs, CANDIDATES, seed=0, step=0)
    labels = torch.arange(len(images)) % CLASSES

    def loss_of(logits: Tensor, first: Tensor | None) -> Tensor:
        return classification_loss(logits, labels, smoothing=0.1)

    accumulate_joint_gradients(Accelerator(cpu=True), supernet, images, policies, loss_of)
    with_gradient, without_gradient = [], []
    for name, layer in quantized_layers(supernet):
        if check.costs[name].fixed is not None:
            continue
        for kind, quantizer in (("weight", layer.weight_quantizer), ("activation", layer.activation_quantizer)):
            gradient = quantizer.step.grad
            finite = gradient is not None and bool(gradient.isfinite().all())
            (with_gradient if finite else without_gradient).append(f"{name} {kind}")
    return with_gradient, without_gradient


def logits_after_reload(quantized: nn.Module, check: NetworkCheck, images: Tensor) -> Tensor:
    """Return the logits of a quantized network that was saved and loaded."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_checkpoint(Path(folder), quantized, check.costs)
        loaded, _ = load_checkpoint(open_local_folder(folder, KIND))
        return loaded(images)


def record_of(family: str, sample: Sample) -> dict[str, Any]:
    """Return what the sweep finds, or why the network is refused or fails."""
    record = {"family": family, "network": sample.name, "input_size": sample.input_size}
    try:
        if sample.parameters > LARGEST:
            return record | {"counted": asdict(counted(sample.name, sample.input_size))}
        return record | asdict(sweep(sample.name, sample.input_size))
    except LimpqError as error:
        return record | {"refused": str(error)}
    except Exception as error:  # a table of what works also says what does not
        place = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return record | {"failed": failure.replace("\n", " ")[:300]}


def complaints(record: Mapping[str, Any]) -> list[str]:
    """Return what did not work, in words; nothing of a network that went through all steps."""
    if "counted" not in record:
        return [f"{what}: {record[what]}" for what in ("refused", "failed") if what in record]
    found = [] if record["counted"]["counts_agree"] else ["the flop counter counts otherwise"]
    if names := record.get("steps_without_gradient"):
        found.append(f"no gradient: {_first(names)}")
    if not record.get("reloaded_equal", True):
        found.append("other logits after loading")
    return found


def document(records: Sequence[Mapping[str, Any]], command: str) -> str:
    """Return the table of what works, with where it comes from."""
    through = [record for record in records if "cosine" in record and not complaints(record)]
    lines = [
        "# One network of each of timm's families",
        "",
        f"`{command}`, {date.today()}, timm {timm.__version__}, torch {torch.__version__}, CPU.",
        "",
        f"Random weights, {CLASSES} classes, {BATCH} pictures of noise at the smallest input of at least 64 pixels",
        f"that the network takes. {len(through)} of {len(records)} go through every step:",
        "",
        "- the MACs are those of PyTorch's flop counter on the untouched network;",
        "- at 8/8 bits, steps calibrated on the two pictures, the logits have this cosine to those in float (the",
        "  smaller; random weights spread noise, so that it is not as near to 1 as that of a trained network);",
        "- in a joint step at 4 and 2 bits every step size of what is searched gets a finite gradient;",
        "- saved bit-packed and loaded by name, the 8/8 network gives exactly the same logits.",
        "",
        "Products are those of two activations, in attention for the most part. Normalizations and softmax stay in",
        f"float everywhere. Networks of more than {LARGEST:.0f} million parameters are counted only.",
        "",
        "| family | network | pixels | layers | products | MACs | searched | 8/8 cosine | remarks |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_row, records),
    ]
    return "\n".join(lines) + "\n"


def _row(record: Mapping[str, Any]) -> str:
    figures, remarks = ["", "", "", "", ""], complaints(record)
    if "counted" in record:
        found = record["counted"]
        macs, share = format_bitops(found["macs"]), f"{100 * found['searched_share']:.1f} %"
        cosine = f"{record['cosine']:.4f}" if "cosine" in record else ""
        figures = [str(found["layers"]), str(found["products"]), macs, share, cosine]
        remarks += [f"in float: {_first(found['in_float'])}"] if found["in_float"] else []
        remarks += [] if cosine else ["counted only"]
    cells = [record["family"], record["network"], str(record["input_size"]), *figures, "; ".join(remarks)]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def main() -> None:
    """Sweep what is asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--records", type=Path, help="file of one JSON line a network; what it has is not done again")
    parser.add_argument("--only", default="*", help="shell pattern of the families")
    options = parser.parse_args()
    records = {}
    if options.records and options.records.is_file():
        records = {record["family"]: record for record in map(json.loads, options.records.read_text().splitlines())}
    asked = {family: sample for family, sample in FAMILIES.items() if fnmatchcase(family, options.only)}
    for family, sample in track(sorted(asked.items(), key=lambda item: item[1].parameters), "families"):
        if family not in records:
            records[family] = record_of(family, sample)
            if options.records:
                with options.records.open("a") as file:
                    file.write(json.dumps(records[family]) + "\n")
    command = f"python tests/sweep/{Path(sys.argv[0]).name} --output {options.output}"
    options.output.write_text(document([records[family] for family in asked], command))


if __name__ == "__main__":
    main()
