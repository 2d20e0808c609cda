"""Top-1 and top-5 over all validation images, and how far a network is from its float reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.errors import DataError
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.train.data.picture_loader import PictureLoader
from limpq_hub.train.data.unreadable import UNREADABLE


@torch.no_grad()
def evaluate(
    accelerator: Accelerator, model: nn.Module, loader: PictureLoader, reference: Sequence[Tensor] | None = None
) -> dict[str, float | int]:
    """Return top-1 and top-5 in percent and the number of images, over all of `loader`, in full float32.

    With a reference, also the KL divergence from it in nats, averaged over the images, and the standard errors of
    top-1 and KL. Pictures that cannot be decoded are left out; how many is told as "unreadable".

    Args:
        reference: from `log_probabilities` on the same loader.

    Raises:
        DataError: there is no image, or too many cannot be decoded.
    """
    model.eval()
    with full_precision():
        return _figures(accelerator, model, loader, reference)


@torch.no_grad()
def log_probabilities(accelerator: Accelerator, model: nn.Module, loader: PictureLoader) -> list[Tensor]:
    """Return the log-probabilities of each batch of this process, [batch, classes] each, in the order of `loader`."""
    model.eval()
    with full_precision():
        batches = accelerator.prepare_data_loader(loader.batches, device_placement=True)
        return [model(images).log_softmax(-1) for images, _ in batches]


def _figures(
    accelerator: Accelerator, model: nn.Module, loader: PictureLoader, reference: Sequence[Tensor] | None
) -> dict[str, float | int]:
    counts = torch.zeros(4, dtype=torch.int64, device=accelerator.device)
    divergences = []
    for index, (images, labels) in enumerate(accelerator.prepare_data_loader(loader.batches, device_placement=True)):
        logits = model(images)
        hits = logits.topk(min(5, logits.shape[-1])).indices == labels[:, None]
        divergence = logits.new_zeros(len(logits))
        if reference is not None:
            divergence = kl_divergence(logits, reference[index], of_each_image=True)
        hits, labels, divergence = accelerator.gather_for_metrics((hits, labels, divergence))
        readable = labels != UNREADABLE
        divergences.append(divergence[readable])
        counts += torch.stack([hits[:, 0].sum(), hits.sum(), readable.sum(), (~readable).sum()])
    loader.unreadable.check()
    top1, top5, images, unreadable = counts.tolist()
    if not images:
        raise DataError("no validation image was found; see the folder val/ of --data")
    figures = {"top1": round(100 * top1 / images, 4), "top5": round(100 * top5 / images, 4), "images": images}
    if reference is not None:
        share, divergence = top1 / images, torch.cat(divergences).double()
        figures["top1_standard_error"] = round(100 * math.sqrt(share * (1 - share) / images), 4)
        figures["kl"] = round(float(divergence.mean()), 6)
        spread = float(divergence.std(correction=min(1, images - 1)))
        figures["kl_standard_error"] = round(spread / math.sqrt(images), 6)
    return figures | ({"unreadable": unreadable} if unreadable else {})


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch TensorFloat-32 off, with which figures would depend on the device."""
    convolution, multiplication = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolution, multiplication
