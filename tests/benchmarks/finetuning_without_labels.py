r"""How near EfficientNet-Lite0 at uniform bits comes to its float self by some steps without labels.

    python tests/benchmarks/finetuning_without_labels.py --data PHOTOGRAPHS \
        --weights tf_efficientnet_lite0.safetensors --lr 0.0005 --step-lr 0.00005 --size 224 --steps 30

PHOTOGRAPHS holds train/ and test/, a folder for each class of ImageNet-1k in both. A weight step a channel, steps of
least error, BatchNorm corrected and then kept; the loss is the KL divergence from the float network. The figures are of
250 pictures of test/ at 224 pixels, whatever `--size` the pictures of the training have.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import timm
import torch
from PIL import Image
from rich.progress import track
from safetensors.torch import load_file
from timm.data import create_transform
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn

from limpq_hub.plan.policy import Policy
from limpq_hub.quant.batch_norm_correction import correct_batch_norm_
from limpq_hub.quant.convert import to_quantized
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.quant.modes import freeze_batch_norms_
from limpq_hub.quant.profile import profile_module

MODEL, USED_AT, BATCH = "tf_efficientnet_lite0", 224, 32
STEP_IMAGES, NORM_IMAGES, MEASURED = 64, 256, 250
PREPARATION = {"interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}


def main() -> None:
    """Print KL and agreement before and after the training."""
    options = parse_options()
    torch.manual_seed(0)
    network = timm.create_model(MODEL).eval()
    network.load_state_dict(load_file(options.weights))
    whole = create_transform((3, USED_AT, USED_AT), crop_pct=0.875, **PREPARATION)
    varied = create_transform((3, options.size, options.size), is_training=True, scale=(0.35, 1.0), **PREPARATION)
    files = sorted((options.data / "train").glob("*/*.jp*g"))
    random.Random(0).shuffle(files)
    measured = pictures(sorted((options.data / "test").glob("*/*.jp*g"))[::2][:MEASURED], whole)
    first = pictures(files[: STEP_IMAGES + NORM_IMAGES], whole)
    policy = Policy.uniform(MODEL, profile_module(network, first[:2]), options.bits)
    quantized = to_quantized(network, policy, example_input=first[:STEP_IMAGES], per_channel=True)
    correct_batch_norm_(quantized, first[STEP_IMAGES:].split(64), network)
    print("before:", figures(quantized, network, measured))
    files = files[len(first) :] + files[: len(first)]
    batches = [[files[(step * BATCH + place) % len(files)] for place in range(BATCH)] for step in range(options.steps)]
    train_(quantized, network, (pictures(batch, varied) for batch in track(batches)), options)
    print("after:", figures(quantized, network, measured))


def train_(quantized: nn.Module, network: nn.Module, batches: Iterable[Tensor], options: argparse.Namespace) -> None:
    """Train all but the BatchNorm statistics, with momentum and a cosine of the rates."""
    quantized.train()
    freeze_batch_norms_(quantized)
    parameters: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in quantized.named_parameters():
        parameters[name.endswith(".step")].append(parameter)
    groups = [{"params": parameters[False], "lr": options.lr}, {"params": parameters[True], "lr": options.step_lr}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    schedule = CosineLRScheduler(optimizer, t_initial=options.steps)
    for step, images in enumerate(batches):
        schedule.step(step)
        with torch.no_grad():
            reference = network(images).log_softmax(-1)
        kl_divergence(quantized(images), reference).backward()
        nn.utils.clip_grad_value_(quantized.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def pictures(files: Sequence[Path], transform: Callable[[Image.Image], Tensor]) -> Tensor:
    """Return pictures as a network takes them, [count, 3, height, width]."""
    return torch.stack([transform(Image.open(file).convert("RGB")) for file in files])


@torch.no_grad()
def figures(quantized: nn.Module, network: nn.Module, images: Tensor) -> str:
    """Return KL to the float network in nats, and the share of pictures with the same answer."""
    quantized.eval()
    logits, reference = (torch.cat([net(batch) for batch in images.split(50)]) for net in (quantized, network))
    agreement = (logits.argmax(1) == reference.argmax(1)).float().mean()
    return f"KL {kl_divergence(logits, reference.log_softmax(-1)):.4f}, agreement {100 * agreement:.1f} %"


def parse_options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--weights", type=Path, required=True, help=f"safetensors file of timm's {MODEL}")
    parser.add_argument("--bits", type=int, default=4, help="of all weights and activations but the first and last")
    parser.add_argument("--lr", type=float, default=0.0005, help="peak rate of the weights")
    parser.add_argument("--step-lr", type=float, default=0.00005, help="peak rate of the step sizes")
    parser.add_argument("--size", type=int, default=USED_AT, help="of the pictures of the training, in pixels")
    parser.add_argument("--steps", type=int, default=30, help=f"of {BATCH} pictures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
