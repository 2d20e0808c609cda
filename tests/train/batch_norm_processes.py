"""One step of a batch normalization on a share of a batch: what each of two processes computes for a test."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from limpq_hub.quant.batch_norm_calibration import recalibrate_batch_norm_
from limpq_hub.train.loop.synchronized_batch_norm import batch_norm_over_all_processes

WORLD = 2


def norms() -> dict[str, nn.Module]:
    """Return batch normalizations of 3 channels in float64, with weights that are not 1 and biases that are not 0."""
    made = {
        "torch": nn.BatchNorm2d(3, eps=1e-3, momentum=0.3),
        "timm": BatchNormAct2d(3, momentum=0.1),
        "timm without activation": BatchNormAct2d(3, apply_act=False),
    }
    for norm in made.values():
        norm.double()
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            norm.bias.copy_(torch.tensor([-0.5, 0.0, 0.25]))
    return made


def batch_of(rows: slice) -> tuple[Tensor, Tensor]:
    """Return rows of two batches of 6 images, [2, rows, 3, 4, 5], and of the gradients of their outputs."""
    generator = torch.Generator().manual_seed(0)
    images, gradients = torch.randn(2, 2, 6, 3, 4, 5, generator=generator, dtype=torch.float64)
    images = images * torch.arange(1, 7).view(6, 1, 1, 1) + 3
    return images[:, rows].contiguous(), gradients[:, rows].contiguous()


def train_one_step(norm: nn.Module, images: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    """Return outputs, gradients and statistics after both batches, forward and backward, and one in eval mode."""
    norm.train()
    images = images.requires_grad_()
    output = torch.stack([norm(batch) for batch in images], 1)
    output.backward(gradients.transpose(0, 1))
    norm.eval()
    return {
        "output": output.detach(),
        "gradient of input": images.grad.transpose(0, 1).contiguous(),
        "gradient of weight": norm.weight.grad,
        "gradient of bias": norm.bias.grad,
        "output in eval mode": norm(torch.ones(1, 3, 2, 2, dtype=torch.float64)).detach(),
        **{name: value.clone() for name, value in norm.named_buffers()},
    }


def recalibrated(network: nn.Module) -> dict[str, Tensor]:
    """Return the statistics of a network of one norm, measured anew on 6 images in two batches."""
    images, _ = batch_of(slice(None))
    recalibrate_batch_norm_(network, images[0].split([4, 2]))
    return {f"recalibrated {name.split('.')[-1]}": value.clone() for name, value in network.named_buffers()}


def save_results_of_one_process(rank: int, folder: str, port: int) -> None:
    """Save what one of two processes computes for each norm on its half of the batch."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == WORLD
    found = {}
    for name, norm in norms().items():
        own = copy.deepcopy(norm)
        holder = nn.Sequential(own)
        with batch_norm_over_all_processes(accelerator, holder):
            assert holder[0] is not own
            results = train_one_step(holder[0], *batch_of(slice(rank * 3, rank * 3 + 3)))
            results |= recalibrated(holder)
        results["own module restored"] = torch.tensor(holder[0] is own)
        found |= {f"{name}: {key}": value for key, value in results.items()}
    save_file(found, Path(folder) / f"{rank}.safetensors")
    accelerator.end_training()
