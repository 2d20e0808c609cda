"""Top-1 and top-5 over all validation images, and how far a network is from its float reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.errors import DataError
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
    distances = []
    for index, (images, labels) in enumerate(accelerator.prepare_data_loader(loader.batches, device_placement=True)):
        logits = model(images)
        found = logits.topk(min(5, model.num_classes)).indices == labels[:, None]
        distance = logits.new_zeros(len(logits)) if reference is None else _divergence(logits, reference[index])
        found, labels, distance = accelerator.gather_for_metrics((found, labels, distance))
        readable = labels != UNREADABLE
        distances.append(distance[readable])
        counts += torch.stack([found[:, 0].sum(), found.sum(), readable.sum(), (~readable).sum()])
    loader.unreadable.check()
    top1, top5, images, unreadable = counts.tolist()
    if not images:
        raise DataError("no validation image was found; see the folder val/ of --data")
    figures = {"top1": round(100 * top1 / images, 4), "top5": round(100 * top5 / images, 4), "images": images}
    if reference is not None:
        share, distance = top1 / images, torch.cat(distances).double()
        figures["top1_standard_error"] = round(100 * math.sqrt(share * (1 - share) / images), 4)
        figures["kl"] = round(float(distance.mean()), 6)
        figures["kl_standard_error"] = round(float(distance.std(correction=min(1, images - 1))) / math.sqrt(images), 6)
    return figures | ({"unreadable": unreadable} if unreadable else {})


def _divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the KL divergence of each row from the reference, [batch].

    Args:
        reference: log-probabilities, [batch, classes].
    """
    return nn.functional.kl_div(logits.log_softmax(-1), reference, log_target=True, reduction="none").sum(-1)


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch TensorFloat-32 off, with which figures would depend on the device."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
