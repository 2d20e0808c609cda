"""Data sets that the tests of the loaders draw, of pictures that can be told apart, and the options to read them."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limpq_hub.train.data.loaders import training_loader, validation_loader
from limpq_hub.train.settings import AugmentationSettings, DataSettings
from limpq_hub.zoo.network import NetworkSpec

PER_CLASS = 260
TOTAL = 4 * PER_CLASS
SPEC = NetworkSpec("test_resnet", 4, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", 1.0)


AUGMENTATION = AugmentationSettings(crop_scale=(0.35, 1.0), color_jitter=0.0, auto_augment=None, data_fraction=1.0)


def data_settings(data: Path | str | None, **changes: object) -> DataSettings:
    return replace(DataSettings(data and str(data), batch_size=2, workers=0, seed=0), **changes)


def color_of(index: int) -> tuple[int, int, int]:
    """Return the color that picture `index` consists of: no crop and no flip changes it."""
    return index % 256, index // 256 * 60, 17


def index_of(image: torch.Tensor) -> int:
    """Return which picture an image was made of."""
    colors = (image * 255).round().flatten(1)
    assert torch.equal(colors.amax(1), colors.amin(1))
    red, green, _ = colors[:, 0].int().tolist()
    return red + 256 * (green // 60)


def draw_colored(root: Path, train_per_class: int = PER_CLASS) -> Path:
    """Write pictures of four classes, each of one color: 1040 for training, eight for validation."""
    for split, per_class in (("train", train_per_class), ("val", 2)):
        for index in range(4 * per_class):
            folder = root / split / f"c{index // per_class}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (3, 3), color_of(index)).save(folder / f"{index:04}.png")
    return root


def picture_path(root: Path, index: int) -> Path:
    return root / f"train/c{index // PER_CLASS}/{index:04}.png"


def jpeg() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def png_with_a_broken_chunk() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[data.index(b"IDAT") + 8] ^= 0xFF
    return bytes(data)


@cache
def png_of_a_billion_pixels() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (40_000, 25_000)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


# Each is made when it is asked for: the largest takes a while.
BROKEN_FILES = {
    "garbage": lambda: b"no picture at all",
    "truncated jpeg": lambda: jpeg()[: len(jpeg()) // 2],
    "header only": lambda: jpeg()[:20],
    "empty": lambda: b"",
    "broken chunk": png_with_a_broken_chunk,
    "bomb": png_of_a_billion_pixels,
}


def draw_varied(root: Path) -> Path:
    """Write pictures of several sizes, modes and formats."""
    generator = np.random.default_rng(1)
    for split in ("train", "val"):
        for index in range(24):
            folder = root / split / f"c{index % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            height, width = generator.integers(5, 60, 2)
            picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
            mode, ending = [("RGB", "jpg"), ("L", "png"), ("CMYK", "jpg"), ("RGBA", "png")][index % 4]
            picture.convert(mode).save(folder / f"{index}.{ending}")
    return root


def encoded(red: int, kind: str = "PNG") -> bytes:
    """Return a picture of which every pixel tells which one it is."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def red_of(image: torch.Tensor) -> int:
    return round(float(image[0].mean()) * 255)


def reds_and_labels(data: DataSettings, *, training: bool) -> list[tuple[int, int]]:
    """Return what the loaders give, sorted; training and validation images have the same form."""
    loader = training_loader(data, AUGMENTATION, SPEC) if training else validation_loader(data, SPEC, 2)
    return sorted(
        (red_of(image), int(label)) for images, labels in loader for image, label in zip(images, labels, strict=True)
    )


def draw_folders(root: Path) -> Path:
    """Write three classes of two training pictures (red 10 label + 0, 1) and one for validation (10 label + 5)."""
    for label, name in enumerate(("n2", "n10", "other")):
        for split, offsets in (("train", (0, 1)), ("val", (5,))):
            (root / split / name).mkdir(parents=True)
            for offset in offsets:
                (root / split / name / f"{offset}.png").write_bytes(encoded(10 * label + offset))
    return root


TRAIN = [(0, 0), (1, 0), (10, 1), (11, 1), (20, 2), (21, 2)]
VAL = [(5, 0), (15, 1), (25, 2)]
