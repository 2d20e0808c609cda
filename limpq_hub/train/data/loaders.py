"""Training, validation and calibration pictures, as the settings ask for them."""

from __future__ import annotations

import torch
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Subset

from limpq_hub.errors import DataError
from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.train.data.decoded_pictures import AugmentedPictures, WholePictures
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.data.picture_cache import CachedSource
from limpq_hub.train.data.picture_loader import PictureLoader, TrainingLoader, batches_of
from limpq_hub.train.data.sources import Source
from limpq_hub.train.data.splits import open_split
from limpq_hub.train.data.unreadable import UNREADABLE
from limpq_hub.train.settings import AugmentationSettings, DataSettings
from limpq_hub.zoo.network import NetworkSpec

_VALIDATION_BATCH = 250
_CALIBRATION_BATCH = 128


def training_loader(data: DataSettings, augmentation: AugmentationSettings, spec: NetworkSpec) -> TrainingLoader:
    """Return shuffled, augmented batches: images [batch, 3, size, size] and labels [batch].

    Raises:
        DataError: the data set is missing or empty, or does not fit in the memory that `--cache-images` may take.
    """
    source = open_split(data, training=True)
    sampler = EpochSampler(len(source), seed=data.seed, fraction=augmentation.data_fraction)
    if len(sampler) < data.batch_size:
        raise DataError(
            f"{data.data} has {len(sampler)} training images, less than one batch of {data.batch_size}; use a "
            "smaller --batch-size"
        )
    if data.cache_images:
        source = CachedSource(source, sorted(sampler.chosen.tolist()), data.workers)
    pictures = _augmented(data, augmentation, spec, source, len(sampler))
    batches = batches_of(pictures, data.batch_size, data.workers, sampler=sampler, drop_last=True)
    return TrainingLoader(batches, pictures.unreadable, sampler, data.batch_size, data.workers)


def validation_loader(
    data: DataSettings, spec: NetworkSpec, batch_size: int = _VALIDATION_BATCH, *, every: int = 1
) -> PictureLoader:
    """Return every validation image once: images [batch, 3, size, size] and labels [batch].

    An image that cannot be decoded is zero and has the label `UNREADABLE`: leave it out of every figure.

    Args:
        every: take one image of so many.

    Raises:
        DataError: the data set is missing or empty.
    """
    pictures = _whole(data, spec, training=False)
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
    pictures = _whole(data, spec, training=True)
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


def _whole(data: DataSettings, spec: NetworkSpec, *, training: bool) -> WholePictures:
    return WholePictures(open_split(data, training=training), preparation_of(spec), spec.input_shape)
