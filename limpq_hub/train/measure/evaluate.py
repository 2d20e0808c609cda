"""Top-1 and top-5 where there are labels, and how far a network is from its float reference, over all images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.errors import DataError, TrainingError
from limpq_hub.quant.kl_divergence import kl_divergence
from limpq_hub.train.data.picture_loader import PictureLoader
from limpq_hub.train.data.unreadable import UNREADABLE
from limpq_hub.train.measure.measured_divergence import measured_divergence
from limpq_hub.train.progress import tracked

ACCURACY_LABELS = {"top1": "top-1, %", "agreement": "agreement with float, %"}


@dataclass(frozen=True)
class OfImages:
    """What was measured of each image, in the order of the loader; those that cannot be decoded are left out.

    Attributes:
        kl: divergence from the reference in nats, [images].
        right: whether the class found most likely is that of the label, or of the reference without labels, [images].
    """

    kl: Tensor
    right: Tensor


@torch.no_grad()
def evaluate(
    accelerator: Accelerator, model: nn.Module, loader: PictureLoader, reference: Sequence[Tensor] | None = None
) -> dict[str, float | int]:
    """Return top-1 and top-5 in percent and the number of images, over all of `loader`, in full float32.

    With a reference, also "agreement": for how many images in percent both find the same class most likely; the KL
    divergence from it in nats, averaged over the images; and the standard errors of all three. Without labels there is
    no top-1 and no top-5. Pictures that cannot be decoded are left out; how many is told as "unreadable".

    Args:
        reference: from `log_probabilities` on the same loader.

    Raises:
        DataError: there is no image, or too many cannot be decoded.
        TrainingError: the predictions are no numbers.
    """
    figures, _ = evaluate_each(accelerator, model, loader, reference)
    return figures


@torch.no_grad()
def evaluate_each(
    accelerator: Accelerator, model: nn.Module, loader: PictureLoader, reference: Sequence[Tensor] | None
) -> tuple[dict[str, float | int], OfImages]:
    """Return what `evaluate` does, and what its figures are averages of."""
    model.eval()
    with full_precision():
        return _figures(accelerator, model, loader, reference)


@torch.no_grad()
def log_probabilities(accelerator: Accelerator, model: nn.Module, loader: PictureLoader) -> list[Tensor]:
    """Return the log-probabilities of each batch of this process, [batch, classes] each, in the order of `loader`.

    Raises:
        DataError: too many images cannot be decoded.
    """
    model.eval()
    with full_precision():
        batches = accelerator.prepare_data_loader(loader.batches, device_placement=True)
        found, unreadable = [], 0
        for images, labels in batches:
            found.append(model(images).log_softmax(-1))
            unreadable += int((accelerator.gather_for_metrics(labels) == UNREADABLE).sum())
    # Of all processes together, each counted once, so that all of them stop or none.
    loader.unreadable.check(unreadable)
    return found


def accuracy_of(figures: Mapping[str, Any]) -> str:
    """Return the key of the figure that tells how right a network is: top-1, or agreement where there are no labels."""
    return "top1" if "top1" in figures else "agreement"


def accuracy_text(figures: Mapping[str, Any]) -> str:
    """Return how right a network is, in words."""
    if "top1" in figures:
        return f"top-1 {figures['top1']:.2f} %"
    if "agreement" in figures:
        return f"agreement with the float network {figures['agreement']:.2f} %, KL {figures['kl']:.4f}"
    return "not measured: the pictures have no labels, and there is no float network to compare with"


def _figures(
    accelerator: Accelerator, model: nn.Module, loader: PictureLoader, reference: Sequence[Tensor] | None
) -> tuple[dict[str, float | int], OfImages]:
    counts = torch.zeros(7, dtype=torch.int64, device=accelerator.device)
    divergences, found = [], []
    batches = accelerator.prepare_data_loader(loader.batches, device_placement=True)
    for index, (images, labels) in enumerate(tracked(batches, "measuring", "batches", len(batches))):
        logits = model(images)
        hits = logits.topk(min(5, logits.shape[-1])).indices == labels[:, None]
        divergence, agrees = logits.new_zeros(len(logits)), torch.zeros_like(labels, dtype=torch.bool)
        if reference is not None:
            divergence = kl_divergence(logits, reference[index], of_each_image=True)
            agrees = logits.argmax(-1) == reference[index].argmax(-1)
        no_numbers = logits.log_softmax(-1).isnan().any(-1)
        of_process = (hits, labels, divergence, agrees, no_numbers)
        hits, labels, divergence, agrees, no_numbers = accelerator.gather_for_metrics(of_process)
        readable, labelled = labels != UNREADABLE, labels >= 0
        divergences.append(divergence[readable])
        found.append(torch.stack([hits[:, 0], agrees], dim=1)[readable])
        of_batch = (hits[:, 0], hits, labelled, agrees & readable, readable, ~readable, no_numbers & readable)
        counts += torch.stack([flags.sum() for flags in of_batch])
    top1, top5, labels_there, agreeing, images, unreadable, without_numbers = counts.tolist()
    loader.unreadable.check(unreadable)
    if not images:
        raise DataError("no validation image was found; see the folder val/ of --data")
    if without_numbers:
        raise TrainingError(
            f"the predictions of the network are not numbers for {without_numbers} of {images} images: look for "
            "weights that are not finite, or a division by what can be 0 behind its layers"
        )
    of_images = OfImages(torch.cat(divergences).double(), torch.cat(found)[:, 0 if labels_there else 1])
    figures: dict[str, float | int] = {}
    if labels_there:
        figures |= {"top1": round(100 * top1 / images, 4), "top5": round(100 * top5 / images, 4)}
    figures["images"] = images
    if reference is not None:
        divergence = of_images.kl
        if labels_there:
            figures["top1_standard_error"] = _percent_error(top1, images)
        figures["agreement"] = round(100 * agreeing / images, 4)
        figures["agreement_standard_error"] = _percent_error(agreeing, images)
        figures["kl"] = round(measured_divergence(float(divergence.mean()), "the network"), 6)
        spread = float(divergence.std(correction=min(1, images - 1)))
        figures["kl_standard_error"] = round(spread / math.sqrt(images), 6)
    return figures | ({"unreadable": unreadable} if unreadable else {}), of_images


def _percent_error(count: int, images: int) -> float:
    """Return the standard error of a share of the images, in percent."""
    share = count / images
    return round(100 * math.sqrt(share * (1 - share) / images), 4)


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch TensorFloat-32 off, with which figures would depend on the device."""
    convolution, multiplication = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolution, multiplication
