"""Loaders of training and validation images, their classes, and what identifies them."""

from __future__ import annotations

import argparse
import hashlib
import signal
import time
from pathlib import Path
from typing import Any

import torch
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from limpq_hub.errors import DataError
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.data.picture_cache import CachedSource
from limpq_hub.train.data.sources import Source
from limpq_hub.train.data.splits import has_training_split, open_split
from limpq_hub.train.data.training_pictures import Pictures, SeededImages, Transform
from limpq_hub.train.data.unreadable import UNREADABLE
from limpq_hub.zoo.network import NetworkSpec


def training_loader(options: argparse.Namespace, spec: NetworkSpec) -> DataLoader:
    """Return shuffled, augmented batches: images [batch, 3, size, size] and labels [batch].

    Call `loader.dataset.unreadable.check()` for each batch, before its images are used.

    Raises:
        DataError: the data set is missing or empty, or does not fit in the memory that `--cache-images` may take.
    """
    source = open_split(options, training=True)
    sampler = EpochSampler(len(source), seed=options.seed, fraction=options.data_fraction)
    if len(sampler) < options.batch_size:
        raise DataError(
            f"{options.data} has {len(sampler)} training images, less than one batch of {options.batch_size}; use a "
            "smaller --batch-size"
        )
    if options.cache_images:
        source = CachedSource(source, sorted(sampler.chosen.tolist()), options.workers)
    images = _seeded_images(options, spec, source, len(sampler))
    return _loader(options, images, options.batch_size, sampler=sampler, drop_last=True)


def validation_loader(
    options: argparse.Namespace, spec: NetworkSpec, batch_size: int = 250, *, every: int = 1
) -> DataLoader:
    """Return every validation image once: images [batch, 3, size, size] and labels [batch].

    An image that cannot be decoded is zero and has the label `UNREADABLE`: leave it out of every figure, and call
    `loader.dataset.unreadable.check()` for each batch.

    Args:
        every: take one image of so many.

    Raises:
        DataError: the data set is missing or empty.
    """
    images = _plain_images(options, spec, training=False)
    if every == 1:
        return _loader(options, images, batch_size)
    # A sampler would not do: Accelerate cuts the last batch by the length of the data set.
    chosen = Subset(images, range(0, len(images), every))
    chosen.unreadable = images.unreadable
    return _loader(options, chosen, batch_size)


def calibration_batches(options: argparse.Namespace, spec: NetworkSpec, count: int) -> list[Tensor]:
    """Return training images as they are validated, not augmented, drawn by the seed: [batch, 3, size, size] each.

    Those that cannot be decoded are left out.

    Raises:
        DataError: they are more than 0.1 % of the training images.
    """
    if not count:
        return []
    images = _plain_images(options, spec, training=True)
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))[:count]
    batches = []
    for batch, labels in _loader(options, Subset(images, drawn.tolist()), 128):
        images.unreadable.check()
        kept = batch[labels != UNREADABLE]
        if len(kept):
            batches.append(kept)
    return batches


def first_images(options: argparse.Namespace, spec: NetworkSpec, count: int) -> Tensor:
    """Return the first images of epoch 0 in training order, augmented, as one batch [count, 3, size, size].

    They are the same for every batch size and number of processes, and fewer than `count` where the data set is
    smaller.

    Raises:
        DataError: more than 0.1 % of the training images cannot be decoded.
    """
    source = open_split(options, training=True)
    sampler = EpochSampler(len(source), seed=options.seed, fraction=options.data_fraction)
    images = _seeded_images(options, spec, source, len(sampler))
    found = [images[index][0] for index, _ in zip(sampler, range(count), strict=False)]
    images.unreadable.check()
    return torch.stack(found)


def loader_speed(loader: DataLoader, seconds: float = 3.0) -> float:
    """Return the images per second that a loader gives when nothing waits for it, measured for about `seconds`.

    Batches that were decoded while the worker processes started are left out, if there are more. Neither the sampler
    nor torch's random state is changed. Give the loader that is not yet prepared by Accelerate.
    """
    arrivals: list[tuple[float, int]] = []
    began = time.monotonic()
    with torch.random.fork_rng(devices=[]):  # an iterator of a loader draws a seed
        for images, _ in loader:
            arrivals.append((time.monotonic(), len(images)))
            if arrivals[-1][0] - (arrivals[0][0] if loader.num_workers else began) >= seconds:
                break
    skipped = min(loader.num_workers, len(arrivals) - 1)
    since = arrivals[skipped - 1][0] if skipped else began
    return sum(count for _, count in arrivals[skipped:]) / max(arrivals[-1][0] - since, 1e-9)


def class_records(options: argparse.Namespace, names: Path | None = None) -> list[dict[str, str]]:
    """Return id and name of each class, in the order of the class indices.

    Args:
        names: JSON file of {class id: name}; the id of a class in folders is the folder's name.

    Raises:
        DataError: training and validation images are of different classes.
    """
    ids = open_split(options, training=False).classes
    if has_training_split(options):
        trained = open_split(options, training=True).classes
        if trained != ids:
            different = sorted({*trained} ^ {*ids})
            what = f"class {', '.join(different[:5])}" if different else "the order of the classes"
            raise DataError(
                f"{options.data}: {options.train_split}/ and {options.val_split}/ differ in {what}; use the same"
            )
    known = read_json(names) if names else {}
    return [{"id": key, "name": known.get(key, key)} for key in ids]


def data_record(options: argparse.Namespace) -> dict[str, object]:
    """Return what identifies the data: its name and split, how many images, a sha256 over all validation image names.

    Where images have no names, their positions and classes stand for them. A script that trains also records how many
    training images it used.
    """
    names = open_split(options, training=False).names()
    digest = hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()
    record = {
        "name": Path(options.data).name,
        "split": options.val_split,
        "validation_images": len(names),
        "validation_names_sha256": digest,
    }
    if hasattr(options, "data_fraction"):
        size = len(open_split(options, training=True))
        record["training_images"] = len(EpochSampler(size, seed=options.seed, fraction=options.data_fraction))
    return record


def _loader(options: argparse.Namespace, images: Dataset, batch_size: int, **order: Any) -> DataLoader:
    return DataLoader(
        images,
        batch_size,
        num_workers=options.workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_sigterm_to_the_parent,
        **order,
    )


def _leave_sigterm_to_the_parent(worker: int) -> None:
    # A signal to the process group must not end the workers before the step is done that waits for them.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _transform(options: argparse.Namespace, spec: NetworkSpec) -> Transform:
    return create_transform(
        spec.input_shape,
        is_training=True,
        scale=tuple(options.crop_scale),
        color_jitter=options.color_jitter or None,
        auto_augment=options.auto_augment,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
    )


def _seeded_images(options: argparse.Namespace, spec: NetworkSpec, source: Source, used: int) -> SeededImages:
    return SeededImages(source, _transform(options, spec), spec.input_shape, options.seed, used=used)


def _plain_images(options: argparse.Namespace, spec: NetworkSpec, *, training: bool) -> Pictures:
    transform = create_transform(
        spec.input_shape, crop_pct=spec.crop_pct, interpolation=spec.interpolation, mean=spec.mean, std=spec.std
    )
    return Pictures(open_split(options, training=training), transform, spec.input_shape)
