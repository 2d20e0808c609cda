"""Images for training and validation: timm's readers and transforms, every random choice a function of the seed."""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_dataset, create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from limpq_hub.errors import DataError, shown
from limpq_hub.plan.jsonfile import read_json
from limpq_hub.zoo.network import NetworkSpec

# Data sets of timm that are read by index; those that are streams (wds/, tfds/, hfids/) have no fixed order.
_NAMED = ("torch/", "hfds/")


class Pictures(Dataset):
    """RGB pictures with their class index, from any data set of timm that is read by index.

    timm replaces a picture that cannot be decoded by its neighbour; here it is an error that names the file.
    """

    def __init__(self, source: Dataset, transform: Callable[[Image.Image], Tensor]) -> None:
        self.source = source
        self.transform = transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a normalized image [3, height, width] and its class index."""
        picture, label = self.read(index)
        return self.transform(picture), label

    def read(self, index: int) -> tuple[Image.Image, int]:
        """Return a picture and its class index.

        Raises:
            DataError: the file cannot be decoded.
        """
        reader = getattr(self.source, "reader", None)
        if reader is None:
            picture, label = self.source[index]
            return picture.convert("RGB"), label
        file, label = reader[index]
        try:
            with file:
                return Image.open(file).convert("RGB"), label
        except (OSError, SyntaxError, ValueError) as error:
            name = reader.filename(index, absolute=True)
            raise DataError(f"{name} cannot be decoded ({str(error)[:60]}); replace or remove it") from None


class SeededImages(Pictures):
    """Pictures whose random transform depends on (seed, epoch, index) alone.

    The sampler passes `epoch * len(self) + index`, so that workers need no state.
    """

    def __init__(self, source: Dataset, transform: Callable[[Image.Image], Tensor], seed: int) -> None:
        super().__init__(source, transform)
        self.seed = seed

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a normalized image [3, height, width] and its class index."""
        picture, label = self.read(index % len(self))
        drawn = random.Random(f"{self.seed} {index}").getrandbits(32)
        outer, outer_numpy = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn)
            random.seed(drawn)
            np.random.seed(drawn)
            image = self.transform(picture)
        random.setstate(outer)
        np.random.set_state(outer_numpy)
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
    images = SeededImages(_source(options, "train", training=True), transform, options.seed)
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
    if not count:
        return []
    images = _plain_images(options, spec, "train")
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))[:count]
    return [batch for batch, _ in DataLoader(Subset(images, drawn.tolist()), 128, num_workers=options.workers)]


def class_records(options: argparse.Namespace, names: Path | None = None) -> list[dict[str, str]]:
    """Return id and name of each class, in the order of the class indices.

    Args:
        names: JSON file of {class folder: name}.

    Raises:
        DataError: training and validation images are of different classes.
    """
    index_of = _reader(options, "val").class_to_idx
    if _has_split(options, "train"):
        trained = _reader(options, "train").class_to_idx
        if trained != index_of:
            different = sorted(map(str, trained.keys() ^ index_of.keys()))
            raise DataError(f"{options.data}: train/ and val/ differ in class {', '.join(different[:5])}; use the same")
    ids = sorted(index_of, key=index_of.get)
    known = read_json(names) if names else {}
    return [{"id": key, "name": known.get(key, key)} for key in ids]


def data_record(options: argparse.Namespace) -> dict[str, object]:
    """Return what identifies the data: its name and a sha256 over the names of all validation files."""
    reader = _reader(options, "val")
    names = sorted(reader.filenames(absolute=False)) if hasattr(reader, "filenames") else []
    digest = hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()
    return {"name": Path(options.data).name, "validation_images": len(names), "validation_names_sha256": digest}


def _reader(options: argparse.Namespace, split: str) -> Any:
    """Return what knows the class folders: timm's reader, or the torchvision data set itself."""
    pictures = _source(options, split, training=False)
    return getattr(pictures, "reader", pictures)


def _plain_images(options: argparse.Namespace, spec: NetworkSpec, split: str) -> Pictures:
    transform = create_transform(
        spec.input_shape, crop_pct=spec.crop_pct, interpolation=spec.interpolation, mean=spec.mean, std=spec.std
    )
    return Pictures(_source(options, split, training=False), transform)


def _is_named(options: argparse.Namespace) -> bool:
    return options.data.startswith(_NAMED)


def _has_split(options: argparse.Namespace, split: str) -> bool:
    return _is_named(options) or (Path(options.data) / split).is_dir()


def _source(options: argparse.Namespace, split: str, *, training: bool) -> Dataset:
    named = _is_named(options)
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
