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
from dataclasses import asdict, dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

import timm
import torch
from accelerate import Accelerator
from families import FAMILIES
from rich.progress import track
from torch import Tensor, nn

from limpq_hub.errors import LimpqError
from limpq_hub.plan.policy import Policy
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.quant.calibrate import calibrate_steps_
from limpq_hub.quant.convert import architecture_of, to_quantized, to_supernet
from limpq_hub.quant.layers import quantized_layers
from limpq_hub.quant.network_check import NetworkCheck, check_network
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies
from limpq_hub.zoo.checkpoint import KIND, load_checkpoint, save_checkpoint
from limpq_hub.zoo.folder import open_local_folder

CLASSES, BATCH, CANDIDATES = 10, 2, (4, 2)


@dataclass(frozen=True)
class SweptNetwork:
    """What the steps of a sweep found of one network.

    Attributes:
        layers, products: how many have bits of their own, the fixed ones included.
        macs: multiply-accumulates of one image.
        counts_agree: whether PyTorch's flop counter counts as many.
        searched_share: of the multiply-accumulates, 0..1.
        cosine: of the logits at 8/8 bits to those in float, the smallest of the batch.
        steps: step sizes of what is searched.
        steps_without_gradient: names of those that got none in a joint step, or one that is not finite.
        reloaded_equal: whether the network gives the same logits after it was saved and loaded.
        in_float: what stays in float besides normalizations.
        seconds: of the whole.
    """

    layers: int
    products: int
    macs: int
    counts_agree: bool
    searched_share: float
    cosine: float
    steps: int
    steps_without_gradient: tuple[str, ...]
    reloaded_equal: bool
    in_float: tuple[str, ...]
    seconds: float


def sweep(name: str, input_size: int) -> SweptNetwork:
    """Convert, count, calibrate, train one step, save and load a network with random weights.

    Raises:
        LimpqError: it is refused.
    """
    start = time.perf_counter()
    network, images = network_and_images(name, input_size)
    check = check_network(network, images.shape[1:])
    costs = check.costs
    quantized = to_quantized(network, Policy.uniform(architecture_of(network), costs, 8), example_input=images)
    calibrate_steps_(quantized, [layer for layer, _ in quantized_layers(quantized)], [images])
    with torch.no_grad():
        float_logits, logits = network(images), quantized.eval()(images)
    with_gradient, without_gradient = steps_after_joint_step(network, images, check)
    return SweptNetwork(
        layers=sum(kind in ("convolution", "linear") for kind in kinds_of(check)),
        products=kinds_of(check).count("product"),
        macs=check.macs,
        counts_agree=check.agrees,
        searched_share=sum(costs[layer].macs for layer in check.searched) / check.macs,
        cosine=float(nn.functional.cosine_similarity(float_logits, logits).min()),
        steps=len(with_gradient) + len(without_gradient),
        steps_without_gradient=tuple(without_gradient),
        reloaded_equal=torch.equal(logits, logits_after_reload(quantized, check, images)),
        in_float=tuple(check.of_kind("float")),
        seconds=time.perf_counter() - start,
    )


def kinds_of(check: NetworkCheck) -> list[str]:
    """Return the kind of each operation."""
    return [operation.kind for operation in check.operations.values()]


def network_and_images(name: str, input_size: int) -> tuple[nn.Module, Tensor]:
    """Return a network with random weights in eval mode, and a batch of noise, [batch, 3, height, width].

    What starts at nothing so that training starts gently (last normalization of a block, layer scale) is drawn at
    random, and normalizations get the statistics of the noise: otherwise most of the network would do nothing.
    """
    torch.manual_seed(0)
    overlay = {"input_size": (3, input_size, input_size)}
    network = timm.create_model(name, pretrained=False, num_classes=CLASSES, pretrained_cfg_overlay=overlay)
    images = torch.randn(BATCH, 3, input_size, input_size)
    for parameter in network.parameters():
        if parameter.abs().max() < 1e-3:
            nn.init.normal_(parameter, mean=0.0 if parameter.ndim > 1 else 0.5, std=0.02)
    recalibrate_batch_norm_(network, [images])
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


def row_of(family: str, name: str, input_size: int) -> dict[str, object]:
    """Return what the sweep found, or why the network is refused or fails."""
    record: dict[str, object] = {"family": family, "network": name, "input_size": input_size}
    try:
        return record | asdict(sweep(name, input_size))
    except LimpqError as error:
        return record | {"refused": str(error)}
    except Exception as error:  # a table of what works also says what does not
        place = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return record | {"failed": failure.replace("\n", " ")[:300]}


def table_of(records: list[dict[str, object]], command: str) -> str:
    """Return the document."""
    works = [record for record in records if "cosine" in record and not complaints(record)]
    lines = [
        "# One network of each of timm's families",
        "",
        f"`{command}`, {date.today()}, timm {timm.__version__}, torch {torch.__version__}, CPU.",
        "",
        f"Random weights, {BATCH} pictures of noise at the smallest input of at least 64 pixels that the network takes,",
        f"{CLASSES} classes. Of {len(records)} families {len(works)} pass every step: the MACs equal those of PyTorch's",
        "flop counter, every step size of what is searched gets a finite gradient in a joint step at 4 and 2 bits, and the",
        "network gives exactly the same logits after it was saved bit-packed and loaded again. *Cosine*: logits at 8/8",
        "bits with calibrated steps to those in float, the smaller one of both pictures. Normalizations and softmax stay in",
        "float everywhere.",
        "",
        "| family | network | pixels | layers | products | MACs | searched | 8/8 cosine | besides |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        where = f"| {record['family']} | {record['network']} | {record['input_size']} "
        if "cosine" not in record:
            why = f"refused: {record['refused']}" if "refused" in record else f"fails: {record['failed']}"
            lines.append(f"{where}| | | | | | {why.replace('|', '/')} |")
            continue
        besides = "; ".join(complaints(record) + in_float(record))
        lines.append(
            f"{where}| {record['layers']} | {record['products']} | {format_bitops(record['macs'])} "
            f"| {100 * record['searched_share']:.1f} % | {record['cosine']:.4f} | {besides} |"
        )
    return "\n".join(lines) + "\n"


def complaints(record: dict[str, object]) -> list[str]:
    """Return what did not work of a network that went through all steps."""
    found = []
    if not record["counts_agree"]:
        found.append("the flop counter counts otherwise")
    if record["steps_without_gradient"]:
        found.append(f"no gradient: {', '.join(record['steps_without_gradient'])}")
    if not record["reloaded_equal"]:
        found.append("other logits after loading")
    return found


def in_float(record: dict[str, object]) -> list[str]:
    """Return a sentence on what stays in float, if anything."""
    names = record["in_float"]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"in float: {', '.join(names[:3])}{more}"] if names else []


def main() -> None:
    """Sweep what is asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--records", type=Path, help="file of one JSON line a network; what it has is not done again")
    parser.add_argument("--only", default="*", help="shell pattern of the families")
    options = parser.parse_args()
    lines = options.records.read_text().splitlines() if options.records and options.records.is_file() else []
    records = {record["family"]: record for record in map(json.loads, lines)}
    asked = {family: sample for family, sample in FAMILIES.items() if fnmatchcase(family, options.only)}
    for family, (name, input_size) in track(asked.items(), "families"):
        if family not in records:
            records[family] = row_of(family, name, input_size)
            if options.records:
                with options.records.open("a") as file:
                    file.write(json.dumps(records[family]) + "\n")
    command = f"python tests/sweep/{Path(sys.argv[0]).name} --output {options.output}"
    options.output.write_text(table_of([records[family] for family in asked], command))


if __name__ == "__main__":
    main()
