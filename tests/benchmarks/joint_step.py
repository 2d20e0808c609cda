"""Time of one joint training step beside the published step in plain operations, both as multiples of a float step.

    python tests/benchmarks/joint_step.py                      # ResNet-18 at 64 pixels, batch 64, 2 threads, float32
    python tests/benchmarks/joint_step.py --device cuda --batch-size 256 --threads 8

Every row runs the same six policies (6, 5, 4, 3, 2 bits and one mixture) on the same batch, forward, backward, clipping
and one SGD step. The rows take turns, so that a slow moment of the machine falls on all of them; medians are shown.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import DEFAULT_CANDIDATES, set_policy_, to_supernet
from limpq_hub.quant.profile import profile_module
from limpq_hub.quant.quantizer import LsqQuantizer
from limpq_hub.train.method.joint_step import accumulate_joint_gradients, classification_loss, joint_policies
from limpq_hub.train.method.shared_stem import SharedStem

MODEL, CLASSES, SMOOTHING, CLIP = "resnet18", 200, 0.1, 1.0
WARM_UP = 2
FLOAT, PUBLISHED = "float step", "published, plain operations"
LossOf = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Row:
    """One way to train.

    Attributes:
        step: runs one whole step.
        forward: runs the first forward pass of a step, and returns its loss.
        network: what is trained.
    """

    step: Callable[[], None]
    forward: Callable[[], Tensor]
    network: nn.Module


class PublishedQuantizer(LsqQuantizer):
    """LSQ as it is published, composed of plain operations that autograd differentiates."""

    def forward(self, x: Tensor) -> Tensor:
        if self.bits is None:
            return x
        low, high = self.range_of(self.bits)
        scale = (high * (x[0].numel() if self.per_sample else x.numel())) ** -0.5
        step = self.step[self.candidates.index(self.bits)].clamp(1e-5, 1)
        step = (step - step * scale).detach() + step * scale
        scaled = (x / step).clamp(low, high)
        return ((scaled.round() - scaled).detach() + scaled) * step


def main() -> None:
    """Measure, and print the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    # TensorFloat-32 would not be equal precision.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    accelerator = Accelerator(mixed_precision=options.mixed_precision, cpu=options.device == "cpu")
    images = torch.randn(options.batch_size, 3, options.input_size, options.input_size).to(accelerator.device)
    if options.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    rows = rows_of(accelerator, images, channels_last=options.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in track(range(WARM_UP + options.turns), console=Console(stderr=True)):
        for name, row in rows.items():
            taken = _seconds_of(row.step, accelerator.device)
            if turn >= WARM_UP:
                seconds[name].append(taken)
    saved = {name: _saved_bytes(row) for name, row in rows.items()}
    _print(options, {name: statistics.median(taken) for name, taken in seconds.items()}, saved)


def rows_of(accelerator: Accelerator, images: Tensor, *, channels_last: bool = False) -> dict[str, Row]:
    """Return the rows of the table by name; each has a network of its own, all with the same weights."""
    network = timm.create_model(MODEL, num_classes=CLASSES).to(accelerator.device)
    if channels_last:
        network.to(memory_format=torch.channels_last)
    labels = torch.arange(len(images), device=accelerator.device) % CLASSES
    costs = profile_module(network, images)
    policies = joint_policies(MODEL, costs, DEFAULT_CANDIDATES, seed=0, step=0)

    def loss_of(logits: Tensor, highest: Tensor | None = None) -> Tensor:
        return classification_loss(logits, labels, smoothing=SMOOTHING)

    def supernet() -> nn.Module:
        return to_supernet(network, DEFAULT_CANDIDATES, example_input=images).train()

    return {
        FLOAT: _float_row(accelerator, copy.deepcopy(network).train(), images, loss_of),
        PUBLISHED: _published_row(accelerator, supernet(), policies, images, loss_of),
        "ours": _our_row(accelerator, supernet(), policies, images, loss_of),
    }


def _float_row(accelerator: Accelerator, network: nn.Module, images: Tensor, loss_of: LossOf) -> Row:
    optimizer = _optimizer(network)

    def forward() -> Tensor:
        with accelerator.autocast():
            return loss_of(network(images), None)

    def step() -> None:
        accelerator.backward(forward())
        nn.utils.clip_grad_value_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return Row(step, forward, network)


def _published_row(
    accelerator: Accelerator, supernet: nn.Module, policies: list[Policy], images: Tensor, loss_of: LossOf
) -> Row:
    """Return the step as published: the whole network in every pass, each gradient tested and clipped alone."""
    for name, module in list(supernet.named_modules()):
        if isinstance(module, LsqQuantizer):
            published = PublishedQuantizer(module.candidates, grid=module.grid, per_sample=module.per_sample)
            published.step = module.step
            supernet.set_submodule(name, published)
    optimizer = _optimizer(supernet)

    def forward(policy: Policy = policies[0]) -> Tensor:
        set_policy_(supernet, policy)
        with accelerator.autocast():
            return loss_of(supernet(images), None)

    def step() -> None:
        for policy in policies:
            accelerator.backward(forward(policy))
        for parameter in supernet.parameters():
            if parameter.grad is not None and not parameter.grad.any():
                parameter.grad = None
        for parameter in supernet.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_value_(parameter, CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return Row(step, forward, supernet)


def _our_row(
    accelerator: Accelerator, supernet: nn.Module, policies: list[Policy], images: Tensor, loss_of: LossOf
) -> Row:
    stem, optimizer = SharedStem(supernet, images), _optimizer(supernet)

    def forward() -> Tensor:
        set_policy_(supernet, policies[0])
        with stem.shared_by(len(policies)), accelerator.autocast():
            return loss_of(supernet(images), None)

    def step() -> None:
        accumulate_joint_gradients(accelerator, supernet, images, policies, loss_of, stem=stem)
        nn.utils.clip_grad_value_(supernet.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return Row(step, forward, supernet)


def _optimizer(network: nn.Module) -> torch.optim.Optimizer:
    return create_optimizer_v2(network, "momentum", lr=0.01, momentum=0.9, weight_decay=2.5e-5)


def _seconds_of(step: Callable[[], None], device: torch.device) -> float:
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _saved_bytes(row: Row) -> int:
    """Return the bytes that autograd holds for the backward pass after one forward pass, the parameters left out."""
    held: dict[int, torch.UntypedStorage] = {}

    def keep(saved: Tensor) -> Tensor:
        held[saved.untyped_storage().data_ptr()] = saved.untyped_storage()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        row.forward()
    parameters = {parameter.untyped_storage().data_ptr() for parameter in row.network.parameters()}
    return sum(storage.nbytes() for address, storage in held.items() if address not in parameters)


def _print(options: argparse.Namespace, seconds: dict[str, float], saved: dict[str, int]) -> None:
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads of the CPU"
    precision = {"no": "float32", "bf16": "bfloat16 autocast"}[options.mixed_precision]
    table = Table(
        title=f"{MODEL} at {options.input_size} pixels, batch {options.batch_size}, {precision}, {device}, "
        f"median of {options.turns}"
    )
    for heading in ("step", "ms", "x float step", "x published", "saved for backward, MB", "x published"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for name, taken in seconds.items():
        table.add_row(
            name,
            f"{1000 * taken:.1f}",
            f"{taken / seconds[FLOAT]:.2f}",
            f"{taken / seconds[PUBLISHED]:.2f}",
            f"{saved[name] / 1e6:.1f}",
            f"{saved[name] / saved[PUBLISHED]:.2f}",
        )
    Console(width=120).print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to run")
    parser.add_argument("--input-size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--turns", type=int, default=15, help="steps of each row that count")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no", help="autocast of all rows")
    parser.add_argument("--channels-last", action="store_true", help="memory format of images and weights")
    return parser.parse_args()


if __name__ == "__main__":
    main()
