"""How often DeiT-Tiny at 8/8 bits answers as in float: random weights, its head fitted to photographs.

    python tests/benchmarks/deit_agreement.py --data PHOTOGRAPHS

PHOTOGRAPHS holds train/ and val/, a folder for each class in both. No weights of a vision transformer can be fetched
here: the body of `deit_tiny_patch16_224` keeps the random weights of seed 0, and its head is the ridge regression from
the features of the training photographs to their classes. Steps are set at the least squared error on 64 of these.
"""

from __future__ import annotations

import argparse

import timm
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import to_quantized
from limpq_hub.quant.profile import profile_module
from limpq_hub.train.data.loaders import validation_loader
from limpq_hub.train.settings import DataSettings
from limpq_hub.zoo.network import NetworkSpec

MODEL = "deit_tiny_patch16_224"
STEP_IMAGES = 64


def main() -> None:
    """Print top-1 and agreement on the photographs of val/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/ and val/, a folder per class in both")
    parser.add_argument("--train-pictures", type=int, default=1500, help="that the head is fitted to")
    parser.add_argument("--pictures", type=int, default=1000, help="of val/, to measure on")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = timm.create_model(MODEL, num_classes=1000).eval()
    spec = NetworkSpec.of(network)
    images, labels = _pictures(options.data, "train", spec, options.train_pictures)
    classes = int(labels.max()) + 1
    network.head = _fitted_head(_answers(_without_head(network), images, "features"), labels, classes)
    policy = Policy.uniform(MODEL, profile_module(network, images[:2]), 8)
    held_out, truth = _pictures(options.data, "val", spec, options.pictures)
    in_float = _answers(network, held_out, "float").argmax(1)
    table = Table(
        "weight steps", "top-1, float", "top-1, 8/8", "same answer", title=f"{MODEL}, {len(truth)} photographs"
    )
    for per_channel in (False, True):
        quantized = to_quantized(network, policy, example_input=images[:STEP_IMAGES], per_channel=per_channel).eval()
        answers = _answers(quantized, held_out, "8/8").argmax(1)
        shares = [(in_float == truth), (answers == truth), (answers == in_float)]
        table.add_row("a channel" if per_channel else "a layer", *(f"{100 * x.float().mean():.2f} %" for x in shares))
    Console().print(table)


def _pictures(data: str, split: str, spec: NetworkSpec, count: int) -> tuple[Tensor, Tensor]:
    """Return at most `count` pictures, equally many of each class, [count, 3, height, width], and their classes."""
    settings = DataSettings(data=data, batch_size=50, workers=0, seed=0, val_split=split)
    every = max(1, len(validation_loader(settings, spec).batches.dataset) // count)
    batches = list(validation_loader(settings, spec, every=every))
    return torch.cat([images for images, _ in batches])[:count], torch.cat([labels for _, labels in batches])[:count]


def _without_head(network: nn.Module) -> nn.Module:
    network.head = nn.Identity()
    return network


def _answers(network: nn.Module, images: Tensor, what: str) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in track(images.split(50), description=what)]).clone()


def _fitted_head(features: Tensor, labels: Tensor, classes: int) -> nn.Linear:
    """Return the ridge regression from features [pictures, channels] to one-hot classes, as a layer."""
    mean, spread = features.mean(0), features.std(0) + 1e-6
    x = torch.cat([(features - mean) / spread, torch.ones(len(features), 1)], 1).double()
    y = nn.functional.one_hot(labels, classes).double()
    solution = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1], dtype=x.dtype) * len(x) * 0.01, x.T @ y).float()
    head = nn.Linear(features.shape[1], classes)
    with torch.no_grad():
        head.weight.copy_(solution[:-1].T / spread)
        head.bias.copy_(solution[-1] - head.weight @ mean)
    return head


if __name__ == "__main__":
    main()
