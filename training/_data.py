"""Images for training and validation: timm's readers and transforms, every random choice a function of the seed."""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from timm.data import create_dataset, create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from limpq_hub.errors import DataError, shown
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.zoo.network import NetworkSpec


class SeededImages(Dataset):
    """Pictures whose random transform depends on (seed, epoch, index) alone.

    The sampler passes `epoch * len(self) + index`, so that workers need no state.
    """

    def __init__(self, pictures: Dataset, transform: object, seed: int) -> None:
        self.pictures = pictures
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int) -> tuple[Tensor, int]:
        """Return a normalized image [3, height, width] and its class index."""
        picture, label = self.pictures[key % len(self)]
        outer = random.getstate()
        with torch.random.fork_rng(devices=[]):
            drawn = random.Random(f"{self.seed} {key}").getrandbits(63)
            torch.manual_seed(drawn)
            random.seed(drawn)
            image = self.transform(picture.convert("RGB"))
        random.setstate(outer)
        return image, label


class EpochSampler(Sampler[int]):
    """Indices of one epoch in an order that depends on (seed, epoch), from `start` on."""

    def __init__(self, size: int, *, seed: int, fraction: float = 1.0) -> None:
        chosen = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        self.chosen = chosen[: max(1, round(size * fraction))]
        self.size, self.seed = size, seed
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return len(self.chosen) - self.start

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch + 1)
        order = self.chosen[torch.randperm(len(self.chosen), generator=generator)]
        return iter((order[self.start :] + self.epoch * self.size).tolist())


def training_loader(options: argparse.Namespace, spec: NetworkSpec) -> DataLoader:
    """Return shuffled, augmented batches: images [batch, 3, size, size] and labels [batch].

    Raises:
        DataError: the data set is missing or empty.
    """
    transform = create_transform(
        spec.input_shape,
        is_training=True,
        scale=tuple(options.crop_scale),
        color_jitter=options.color_jitter or None,
        auto_augment=options.auto_augment,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
    )
    images = SeededImages(_pictures(options, "train", training=True), transform, options.seed)
    sampler = EpochSampler(len(images), seed=options.seed, fraction=options.data_fraction)
    if len(sampler) < options.batch_size:
        raise DataError(
            f"{options.data} has {len(sampler)} training images, less than one batch of {options.batch_size}"
        )
    return DataLoader(
        images, options.batch_size, sampler=sampler, num_workers=options.workers, drop_last=True, pin_memory=False
    )


def validation_loader(options: argparse.Namespace, spec: NetworkSpec, batch_size: int = 250) -> DataLoader:
    """Return every validation image once: images [batch, 3, size, size] and labels [batch].

    Raises:
        DataError: the data set is missing or empty.
    """
    return DataLoader(_plain_images(options, spec, "val"), batch_size, num_workers=options.workers)


def calibration_batches(options: argparse.Namespace, spec: NetworkSpec, count: int) -> list[Tensor]:
    """Return training images as they are validated, not augmented, drawn by the seed: [batch, 3, size, size] each."""
    images = _plain_images(options, spec, "train")
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))[:count]
    return [batch for batch, _ in DataLoader(Subset(images, drawn.tolist()), batch_size=128)]


def class_records(options: argparse.Namespace, names: Path | None = None) -> list[dict[str, str]]:
    """Return id and name of each class, in the order of the class indices.

    Args:
        names: JSON file of {class folder: name}.
    """
    index_of = _reader(options).class_to_idx
    ids = sorted(index_of, key=index_of.get)
    known = read_json(names) if names else {}
    return [{"id": key, "name": known.get(key, key)} for key in ids]


def data_record(options: argparse.Namespace) -> dict[str, object]:
    """Return what identifies the data: its name and a sha256 over the names of all validation files."""
    reader = _reader(options)
    names = sorted(reader.filenames(absolute=False)) if hasattr(reader, "filenames") else []
    digest = hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()
    return {"name": Path(options.data).name, "validation_images": len(names), "validation_names_sha256": digest}


def _reader(options: argparse.Namespace) -> object:
    """Return what knows the class folders: timm's reader, or the torchvision data set itself."""
    pictures = _pictures(options, "val", training=False)
    return getattr(pictures, "reader", pictures)


def _plain_images(options: argparse.Namespace, spec: NetworkSpec, split: str) -> Dataset:
    images = _pictures(options, split, training=False)
    images.transform = create_transform(
        spec.input_shape, crop_pct=spec.crop_pct, interpolation=spec.interpolation, mean=spec.mean, std=spec.std
    )
    return images


def _pictures(options: argparse.Namespace, split: str, *, training: bool) -> Dataset:
    named = "/" in options.data and options.data.split("/")[0] in ("torch", "hfds", "tfds", "wds", "hfids")
    if not named:
        folder = Path(options.data) / split
        if not folder.is_dir():
            raise DataError(f"--data {shown(options.data)} has no folder {split}/; give one with train/ and val/")
        empty = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not any(entry.iterdir()))
        if empty:
            raise DataError(f"{folder}: no image in class {', '.join(empty[:5])}; remove the folder or fill it")
    try:
        return create_dataset(
            options.data if named else "",
            root=options.data_root if named else options.data,
            split=split,
            is_training=training,
        )
    except (RuntimeError, FileNotFoundError, AssertionError) as error:
        raise DataError(f"--data {shown(options.data)}: {str(error)[:200]}") from None
