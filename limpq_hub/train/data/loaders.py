"""Training, validation and calibration pictures, as the settings ask for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Subset

from limpq_hub.errors import DataError
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.train.data.decoded_pictures import AugmentedPictures, WholePictures
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.data.folder_source import FolderSource
from limpq_hub.train.data.network_classes import with_classes
from limpq_hub.train.data.picture_cache import CachedSource
from limpq_hub.train.data.picture_files import left_out_text
from limpq_hub.train.data.picture_loader import PictureLoader, TrainingLoader, batches_of
from limpq_hub.train.data.sources import Source
from limpq_hub.train.data.splits import check_apart, open_split
from limpq_hub.train.data.unreadable import UNREADABLE
from limpq_hub.train.settings import VALIDATION_BATCH, AugmentationSettings, DataSettings
from limpq_hub.zoo.network import NetworkSpec

_CALIBRATION_BATCH = 128


def training_loader(
    data: DataSettings, augmentation: AugmentationSettings, spec: NetworkSpec, classes: Sequence[str] | None = None
) -> TrainingLoader:
    """Return shuffled, augmented batches: images [batch, 3, size, size] and labels [batch].

    Args:
        classes: ids of the classes of the network, in the order of its outputs; those of the data if None.

    Raises:
        DataError: the data set is missing or empty, has a class that the network does not know, is validated on too, or
            does not fit in the memory that `--cache-images` may take.
    """
    check_apart(data)
    source = open_split(data, training=True)
    _tell(source)
    if data.unlabelled and _is_main_process():
        held_out = "" if data.data else f", {len(open_split(data, training=False))} more are held out to measure by"
        print(f"{len(source)} pictures without labels to learn from{held_out}", flush=True)
    source = source if classes is None else with_classes(source, classes)
    sampler = epoch_sampler(data, augmentation, source)
    read = CachedSource(source, sorted(sampler.chosen.tolist()), data.workers) if data.cache_images else source
    pictures = _augmented(data, augmentation, spec, read, len(sampler))
    batches = batches_of(pictures, data.batch_size, data.workers, sampler=sampler, drop_last=True)
    return TrainingLoader(batches, pictures.unreadable, sampler, data.batch_size, data.workers, source)


def epoch_sampler(data: DataSettings, augmentation: AugmentationSettings, source: Source) -> EpochSampler:
    """Return the order of the training images, epoch by epoch.

    Raises:
        DataError: they are less than one batch.
    """
    sampler = EpochSampler(len(source), seed=data.seed, fraction=augmentation.data_fraction)
    if len(sampler) < data.batch_size:
        raise DataError(
            f"{data.data or source.where} has {len(sampler)} training images, less than one batch of "
            f"{data.batch_size}; use a smaller --batch-size"
        )
    return sampler


def validation_loader(
    data: DataSettings,
    spec: NetworkSpec,
    batch_size: int = VALIDATION_BATCH,
    *,
    every: int = 1,
    classes: Sequence[str] | None = None,
) -> PictureLoader:
    """Return every validation image once: images [batch, 3, size, size] and labels [batch].

    An image that cannot be decoded is zero and has the label `UNREADABLE`: leave it out of every figure.

    Args:
        every: take one image of so many.
        classes: as `training_loader` takes them.

    Raises:
        DataError: the data set is missing or empty, or has a class that the network does not know.
    """
    source = open_split(data, training=False)
    if every == 1:
        _tell(source)
    pictures = _whole(spec, source if classes is None else with_classes(source, classes))
    # A sampler would not do: Accelerate cuts the last batch by the length of the data set.
    chosen = pictures if every == 1 else Subset(pictures, range(0, len(pictures), every))
    return PictureLoader(batches_of(chosen, batch_size, data.workers), pictures.unreadable)


def calibration_batches(
    data: DataSettings, spec: NetworkSpec, count: int, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Return training images as they are validated, not augmented, drawn by the seed: [batch, 3, size, size] each.

    Those that cannot be decoded are left out.

    Raises:
        DataError: they are more than 0.1 % of the training images.
    """
    if not count:
        return []
    pictures = _whole(spec, open_split(data, training=True))
    drawn = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(data.seed))[:count]
    batches = []
    for images, labels in batches_of(Subset(pictures, drawn.tolist()), _CALIBRATION_BATCH, data.workers):
        pictures.unreadable.check()
        readable = images[labels != UNREADABLE]
        if len(readable):
            batches.append(readable.to(device))
    return batches


def first_images(data: DataSettings, augmentation: AugmentationSettings, spec: NetworkSpec, count: int) -> Tensor:
    """Return the first images of epoch 0 in training order, augmented, as one batch [count, 3, size, size].

    They are the same for every batch size and number of processes, and fewer than `count` where the data set is
    smaller.

    Raises:
        DataError: more than 0.1 % of the training images cannot be decoded.
    """
    source = open_split(data, training=True)
    sampler = EpochSampler(len(source), seed=data.seed, fraction=augmentation.data_fraction)
    pictures = _augmented(data, augmentation, spec, source, len(sampler))
    images = [pictures[index][0] for index, _ in zip(sampler, range(count), strict=False)]
    pictures.unreadable.check()
    return torch.stack(images)


def _augmented(
    data: DataSettings, augmentation: AugmentationSettings, spec: NetworkSpec, source: Source, used: int
) -> AugmentedPictures:
    least_area, largest_area = augmentation.crop_scale
    transform = create_transform(
        spec.input_shape,
        is_training=True,
        scale=(least_area, largest_area),
        # None leaves the transform out, and with it what it would draw; timm's annotation lacks it.
        color_jitter=augmentation.color_jitter or None,  # type: ignore[arg-type]
        auto_augment=augmentation.auto_augment,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
    )
    return AugmentedPictures(source, transform, spec.input_shape, data.seed, used=used)


def _whole(spec: NetworkSpec, source: Source) -> WholePictures:
    return WholePictures(source, preparation_of(spec), spec.input_shape)


def _tell(source: Source) -> None:
    """Say once, on stderr, which files of a folder are no pictures."""
    if isinstance(source, FolderSource) and source.left_out and _is_main_process():
        print(f"{source.where}: {left_out_text(source.left_out)}", file=sys.stderr, flush=True)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
