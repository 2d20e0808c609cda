"""Top-1 and top-5 over all validation images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from _data import UNREADABLE
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from limpq_hub.errors import DataError


@torch.no_grad()
def evaluate(accelerator: Accelerator, model: nn.Module, loader: DataLoader) -> dict[str, float | int]:
    """Return top-1 and top-5 in percent and the number of images, over all of `loader`, in full float32.

    Pictures that cannot be decoded are left out; how many is told as "unreadable".

    Raises:
        DataError: there is no image, or too many cannot be decoded.
    """
    model.eval()
    with _full_precision():
        return _figures(accelerator, model, loader)


def _figures(accelerator: Accelerator, model: nn.Module, loader: DataLoader) -> dict[str, float | int]:
    counts = torch.zeros(4, dtype=torch.int64, device=accelerator.device)
    for images, labels in accelerator.prepare_data_loader(loader, device_placement=True):
        found = model(images).topk(min(5, model.num_classes)).indices == labels[:, None]
        found, labels = accelerator.gather_for_metrics((found, labels))
        readable = labels != UNREADABLE
        counts += torch.stack([found[:, 0].sum(), found.sum(), readable.sum(), (~readable).sum()])
    loader.dataset.unreadable.check()
    top1, top5, images, unreadable = counts.tolist()
    if not images:
        raise DataError("no validation image was found; see the folder val/ of --data")
    figures = {"top1": round(100 * top1 / images, 4), "top5": round(100 * top5 / images, 4), "images": images}
    return figures | ({"unreadable": unreadable} if unreadable else {})


@contextmanager
def _full_precision() -> Iterator[None]:
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
