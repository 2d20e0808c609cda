r"""Top-1 and KL to the float network of EfficientNet-Lite0, converted without any training, by way of converting.

    python tests/benchmarks/efficientnet_without_training.py --data PHOTOGRAPHS \
        --weights tf_efficientnet_lite0.safetensors --output out/efficientnet.json

PHOTOGRAPHS holds train/ and val/, a folder for each class of ImageNet-1k in both, named by its id. Steps and BatchNorm
are set on photographs of train/, the figures are of val/. First and last layer run at 8/8 bits. Every figure is written
to the output when it is measured: started again, the command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from safetensors.torch import load_file
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from torch import Tensor, nn

from limpq_hub.plan.costs import Costs
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.batch_norm_calibration import (
    recalibrate_batch_norm_,
    recalibrate_if_better_,
)
from limpq_hub.quant.batch_norm_correction import correct_batch_norm_
from limpq_hub.quant.calibrate import StepStart, start_steps_
from limpq_hub.quant.convert import build_quantized
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.measure.measurement_cache import Figures, MeasurementCache

MODEL = "tf_efficientnet_lite0"
BITS = {"8/8": (8, 8), "6/6": (6, 6), "4/4": (4, 4), "4/8": (4, 8)}
FLOAT = "float"


@dataclass(frozen=True)
class Way:
    """A way of converting a network.

    Attributes:
        start: rule of the steps.
        per_channel: whether every output channel has a weight step of its own.
        offset: whether grids of inputs that can be negative have a zero point of their own.
        norms: what is done with the BatchNorm statistics.
    """

    start: StepStart = "least-error"
    per_channel: bool = False
    offset: bool = False
    norms: Literal["shipped", "recalibrated", "if better", "corrected"] = "shipped"


WAYS = {
    "LSQ's initial steps": Way(start="lsq"),
    "least error": Way(),
    "offset grids": Way(offset=True),
    "a channel": Way(per_channel=True),
    "a channel, offset grids": Way(per_channel=True, offset=True),
    "least error, recalibrated": Way(norms="recalibrated"),
    "least error, recalibrated if better": Way(norms="if better"),
    "least error, corrected": Way(norms="corrected"),
    "a channel, recalibrated": Way(per_channel=True, norms="recalibrated"),
    "a channel, recalibrated if better": Way(per_channel=True, norms="if better"),
    "a channel, corrected": Way(per_channel=True, norms="corrected"),
    "a channel, offset grids, corrected": Way(per_channel=True, offset=True, norms="corrected"),
}


@dataclass(frozen=True)
class Photographs:
    """Photographs as they are decoded, a quarter of the memory that they take normalized.

    Attributes:
        pixels: [count, 3, height, width], uint8.
        labels: class indices, [count].
        prepare: from pixels to what the network takes.
    """

    pixels: Tensor
    labels: Tensor
    prepare: Callable[[Tensor], Tensor]

    @classmethod
    def read(cls, folder: Path, count: int | None, settings: Mapping[str, Any]) -> Photographs:
        """Read `count` photographs of `folder`/CLASS/, drawn by a fixed seed; all if None."""
        index_of = {name: index for index, name in enumerate(sorted(ImageNetInfo().label_names()))}
        files = sorted(folder.glob("*/*.jp*g"))
        random.Random(0).shuffle(files)
        files = files[:count]
        if not files:
            raise SystemExit(f"{folder} holds no photographs in class folders")
        transform = create_transform(**settings, normalize=False)
        mean, std = (torch.tensor(settings[name]).reshape(3, 1, 1) for name in ("mean", "std"))
        return cls(
            torch.stack([transform(Image.open(file).convert("RGB")) for file in files]),
            torch.tensor([index_of[file.parent.name] for file in files]),
            lambda pixels: (pixels.float() / 255 - mean) / std,
        )

    def batches(self, size: int) -> list[Tensor]:
        """Return all of them, normalized."""
        return [self.prepare(pixels) for pixels in self.pixels.split(size)]

    def logits(self, network: nn.Module, size: int, advance: Callable[[int], object]) -> Tensor:
        """Return the answers of a network, [count, classes]."""
        answers = []
        with torch.inference_mode():
            for pixels in self.pixels.split(size):
                answers.append(network(self.prepare(pixels).contiguous(memory_format=torch.channels_last)))
                advance(len(pixels))
        return torch.cat(answers)


def float_network(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network with its weights, in eval mode, and how its pictures are prepared."""
    network = timm.create_model(MODEL).eval()
    network.load_state_dict(load_file(weights))
    settings = {**resolve_data_config({}, model=network), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return network, {name: settings[name] for name in ("input_size", "crop_pct", "interpolation", "mean", "std")}


def main(argv: list[str] | None = None) -> None:
    """Measure what was not measured before, and print the table."""
    options = parse_options(argv)
    torch.set_num_threads(options.threads)
    network, settings = float_network(options.weights)
    measured = Photographs.read(options.data / "val", options.pictures, settings)
    images = Photographs.read(options.data / "train", options.calibrate_images, settings).batches(options.batch_size)
    cache = MeasurementCache(
        options.output,
        {
            "weights_sha256": hashlib.sha256(options.weights.read_bytes()).hexdigest(),
            "pictures": len(measured.labels),
            "calibrate_images": sum(map(len, images)),
            "step_images": options.step_images,
            "batch_size": options.batch_size,
        },
    )
    cells = {f"{bits} {name}": (bits, WAYS[name]) for bits in options.bits for name in options.ways}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(FLOAT, total=(len(cells) + 1) * len(measured.labels))
        logits_of = functools.partial(
            measured.logits, size=options.batch_size, advance=functools.partial(progress.advance, task)
        )
        reference = logits_of(network).log_softmax(-1)
        cache.figures_of(FLOAT, lambda: figures(reference, reference, measured.labels))
        converter = Converter(network, profile_module(network, images[0][:2]), images, options.step_images)
        for index, (key, (bits, way)) in enumerate(cells.items(), 1):
            progress.update(task, description=key)
            if key not in cache.figures:
                quantized, record = converter.convert(bits, way)
                measurement = figures(logits_of(quantized), reference, measured.labels) | record
                cache.figures_of(key, functools.partial(dict, measurement))
            progress.update(task, completed=(index + 1) * len(measured.labels))
    _print(cache.figures, options)


@dataclass(frozen=True)
class Converter:
    """Converts the float network in any way.

    Attributes:
        images: batches of other pictures than the measured ones, [batch, 3, height, width], normalized.
        step_images: how many of them set the steps.
    """

    network: nn.Module
    costs: Costs
    images: list[Tensor]
    step_images: int

    def convert(self, bits: str, way: Way) -> tuple[nn.Module, Figures]:
        """Return the quantized network, and what became of its BatchNorm statistics."""
        costs = {
            name: dataclasses.replace(cost, offset=way.offset and cost.signed and cost.fixed is None)
            for name, cost in self.costs.items()
        }
        policy, shape = Policy.uniform(MODEL, costs, *BITS[bits]), tuple(self.images[0].shape[1:])
        quantized = build_quantized(self.network, policy, costs, shape, per_channel=way.per_channel).eval()
        start_steps_(quantized, torch.cat(self.images)[: self.step_images], way.start)
        if way.norms == "recalibrated":
            recalibrate_batch_norm_(quantized, self.images)
        elif way.norms == "if better":
            return quantized, dataclasses.asdict(recalibrate_if_better_(quantized, self.images, self.network))
        elif way.norms == "corrected":
            correct_batch_norm_(quantized, self.images, self.network)
        return quantized, {}


def figures(logits: Tensor, reference: Tensor, labels: Tensor) -> Figures:
    """Return top-1, the share of answers that are those of the float network, both in percent, and KL to it in nats."""
    answers = logits.argmax(1)
    return {
        "top1": 100 * float((answers == labels).float().mean()),
        "same_answer": 100 * float((answers == reference.argmax(1)).float().mean()),
        "kl": float(kl_divergence(logits, reference)),
    }


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train/ and val/, a folder per class in both"
    )
    parser.add_argument("--weights", type=Path, required=True, help=f"safetensors file of timm's {MODEL}")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the figures")
    parser.add_argument("--pictures", type=int, help="of val/, to measure on; all if not given")
    parser.add_argument("--calibrate-images", type=int, default=256, help="of train/, to set BatchNorm on")
    parser.add_argument("--step-images", type=int, default=32, help="the first of these, to set the steps on")
    parser.add_argument("--bits", nargs="+", choices=BITS, default=list(BITS), help="of weights / activations")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of converting")
    parser.add_argument("--batch-size", type=int, default=50, help="pictures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args(argv)


def _print(measured: Mapping[str, Figures], options: argparse.Namespace) -> None:
    table = Table(title=f"top-1 in % / KL to float; float {measured[FLOAT]['top1']:.1f} %")
    table.add_column("way of converting")
    for bits in options.bits:
        table.add_column(bits, justify="right")
    for name in options.ways:
        cells = [measured[f"{bits} {name}"] for bits in options.bits]
        kept = [" (kept)" if cell.get("accepted") is False else "" for cell in cells]
        table.add_row(
            name, *(f"{cell['top1']:.1f} / {cell['kl']:.3f}{note}" for cell, note in zip(cells, kept, strict=True))
        )
    Console().print(table)


if __name__ == "__main__":
    main()
