"""Pictures that mean harm or are merely odd, in every place that reads pictures: one reader, bounded before each step.

`-m slow` tries thousands of them.
"""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_pictures import AUGMENTATION, SPEC, data_settings
from PIL import Image
from timm.data import create_transform

from limpq_hub.errors import DataError, ImageError
from limpq_hub.pictures import read_picture
from limpq_hub.pictures.preparation import check_scaled, preparation_of
from limpq_hub.train.data.decoded_pictures import MOST_PIXELS as MOST_PIXELS_TRAINED
from limpq_hub.train.data.decoded_pictures import WholePictures
from limpq_hub.train.data.loaders import calibration_batches, training_loader, validation_loader
from limpq_hub.train.data.sources import FileSource
from limpq_hub.train.data.unreadable import UNREADABLE
from limpq_hub.zoo.network import NetworkSpec

LARGE = NetworkSpec("test_resnet", 4, 224, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "bicubic", 0.875)


def png(width: int, height: int) -> bytes:
    """A grey PNG of a few hundred bytes, whole."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(b"\0" + b"\x80" * width) for _ in range(height)), packer.flush()])
    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_of_many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, of a few dozen bytes, is there many times."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 128).save(buffer, "JPEG", progressive=True, quality=30)
    content = buffer.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * scans + b"\xff\xd9"


def tiff_of_large_tiles(side: int, tile: int) -> bytes:
    """A TIFF of side x side RGB pixels in one compressed tile that is far larger."""
    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(bytes(3 * tile)) for _ in range(tile)), packer.flush()])
    entries = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 8), (262, 3, 2), (277, 3, 3), (284, 3, 1)]
    entries += [(322, 4, tile), (323, 4, tile), (324, 4, 8), (325, 4, len(data))]
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + fields + bytes(4)


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """An RGB picture, [height, width, 3], no two corners alike."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.dstack([columns * 255 // width, rows * 255 // height, 255 - columns * 255 // width]).astype(np.uint8)


def kinds(pixels: np.ndarray) -> dict[str, bytes]:
    """The scene as cameras, scanners and drawing programs store it, by name of the kind."""
    rgb, alpha = Image.fromarray(pixels), np.where(np.arange(len(pixels)) < len(pixels) // 2, 0, 255).astype(np.uint8)
    grey, mask = pixels[..., 0], np.repeat(alpha[:, None], pixels.shape[1], 1)
    palette, side = rgb.quantize(16), Image.Exif()
    side[0x0112] = 6
    still = {"save_all": True, "append_images": [Image.new("RGB", rgb.size, "lime")], "duration": 50}
    pictures = {
        "rgb.png": (rgb, "PNG", {}),
        "rgb.jpg": (rgb, "JPEG", {"quality": 95}),
        "grey.png": (Image.fromarray(grey), "PNG", {}),
        "grey.jpg": (Image.fromarray(grey), "JPEG", {}),
        "turned.png": (rgb.transpose(Image.Transpose.ROTATE_90), "PNG", {"exif": side}),
        "turned.jpg": (rgb.transpose(Image.Transpose.ROTATE_90), "JPEG", {"exif": side}),
        "grey16.png": (Image.fromarray(grey.astype(np.uint16) * 257), "PNG", {}),
        "rgba.png": (Image.fromarray(np.dstack([pixels, mask])), "PNG", {}),
        "grey_alpha.png": (Image.merge("LA", [Image.fromarray(grey), Image.fromarray(mask)]), "PNG", {}),
        "palette.png": (palette, "PNG", {}),
        "palette_transparent.png": (palette, "PNG", {"transparency": 3}),
        "rgb_transparent.png": (rgb, "PNG", {"transparency": tuple(map(int, pixels[9, 9]))}),
        "black_white.png": (Image.fromarray(grey > 128), "PNG", {}),
        "inks.jpg": (rgb.convert("CMYK"), "JPEG", {"quality": 95}),
        "animated.png": (rgb, "PNG", still),
        "animated_gif.png": (rgb, "GIF", still),
    }
    found = {}
    for name, (picture, kind, options) in pictures.items():
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    return found


def draw(root: Path, files: dict[str, bytes]) -> Path:
    """Write the files as one class of both splits, and another class beside it."""
    for split in ("train", "val"):
        for name, content in {f"all/{name}": content for name, content in files.items()}.items():
            path = root / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (root / split / "other").mkdir()
        (root / split / "other/one.png").write_bytes(png(4, 4))
    return root


# --- one reader


@pytest.mark.parametrize("cache", [False, True])
def test_training_reads_every_kind_of_picture_as_predict_does(tmp_path, cache):
    root = draw(tmp_path, kinds(scene()))
    pictures = training_loader(data_settings(root, cache_images=cache), AUGMENTATION, SPEC).batches.dataset
    assert len(pictures) == 17
    for index in range(16):
        path = Path(root, "train", Path(pictures.source.name(index)))
        if cache:
            path.rename(f"{path}.away")  # from memory alone
        read = np.asarray(pictures.read(index))
        path = Path(f"{path}.away") if cache else path
        assert np.array_equal(read, np.asarray(read_picture(path))), path


@pytest.mark.parametrize("calibration", [False, True])
def test_validation_and_calibration_show_the_network_what_predict_shows_it(tmp_path, calibration):
    root, prepare = draw(tmp_path, kinds(scene())), preparation_of(LARGE)
    settings = data_settings(root)
    batches = (
        calibration_batches(settings, LARGE, 17) if calibration else [i for i, _ in validation_loader(settings, LARGE)]
    )
    images = torch.cat(list(batches))
    split = "train" if calibration else "val"
    expected = [prepare(read_picture(path)) for path in sorted((root / split).rglob("*.png"))]
    expected += [prepare(read_picture(path)) for path in sorted((root / split).rglob("*.jpg"))]
    assert len(images) == len(expected) == 17
    for image in expected:
        assert any(torch.equal(image, shown) for shown in images)


def test_plain_pictures_of_8_bits_are_the_pixels_that_pillow_converts(tmp_path):
    for name in ("rgb.png", "rgb.jpg", "grey.png", "grey.jpg"):
        (tmp_path / name).write_bytes(kinds(scene())[name])
        with Image.open(tmp_path / name) as picture:
            assert np.array_equal(np.asarray(read_picture(tmp_path / name)), np.asarray(picture.convert("RGB"))), name


def test_the_kinds_show_what_a_person_sees_in_them(tmp_path):
    pixels = scene()
    for name, tolerance in (("turned.png", 0), ("turned.jpg", 12), ("animated.png", 0), ("inks.jpg", 12)):
        (tmp_path / name).write_bytes(kinds(pixels)[name])
        assert np.abs(np.asarray(read_picture(tmp_path / name)).astype(int) - pixels).mean() <= tolerance, name
    for name in ("grey16.png", "rgba.png", "grey_alpha.png"):
        (tmp_path / name).write_bytes(kinds(pixels)[name])
        read = np.asarray(read_picture(tmp_path / name)).astype(int)
        grey = name.startswith("grey")
        shown = np.repeat(pixels[..., :1], 3, 2) if grey else pixels
        assert np.abs(read[24:] - shown[24:]).max() <= 1, name
        assert (read[:24] == 255).all() == ("16" not in name), name


def test_a_torchvision_folder_is_read_as_predict_reads_it(tmp_path):
    root = draw(tmp_path, kinds(scene()))
    settings = data_settings("torch/image_folder", data_root=str(root))
    pictures = validation_loader(settings, SPEC).batches.dataset
    for index in range(len(pictures)):
        path = root / "val" / pictures.source.name(index)
        assert np.array_equal(np.asarray(pictures.read(index)), np.asarray(read_picture(path))), path


# --- bounds on what preparation makes


@pytest.mark.parametrize("size", [(10_000, 1_000), (1_000, 10_000), (1_200, 20), (3, 700), (1, 1), (30, 7_000)])
@pytest.mark.parametrize("spec", [SPEC, LARGE], ids=["16", "224"])
def test_panoramas_are_prepared_exactly_as_by_timm(size, spec):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    expected = create_transform(
        spec.input_shape, crop_pct=spec.crop_pct, interpolation=spec.interpolation, mean=spec.mean, std=spec.std
    )(Image.fromarray(noise))
    assert torch.equal(preparation_of(spec)(Image.fromarray(noise)), expected)


@pytest.mark.parametrize("size", [(200_000, 1), (1, 200_000), (250_000, 1), (100_000, 2), (1_000, 1)])
def test_a_line_is_refused_before_it_is_scaled(size):
    picture, began = Image.new("RGB", size), time.process_time()
    spec = LARGE if size[0] > 1_000 or size[1] > 1_000 else NetworkSpec(**vars(LARGE) | {"input_size": 1_000})
    with pytest.raises(ImageError) as caught:
        preparation_of(spec)(picture)
    side = int(spec.input_size / 0.875)
    width, height = (side * pixels // min(size) for pixels in size)
    assert str(caught.value) == (
        f"the picture of {size[0]} x {size[1]} pixels is too long and narrow: scaled for the network it would have "
        f"{width} x {height}, more than 16,000,000 pixels; crop it first"
    )
    assert time.process_time() - began < 1


@pytest.mark.parametrize("crop_mode", ["center", "border", "squash"])
@pytest.mark.parametrize("size", [(640, 480), (480, 640), (2_000, 200), (700, 1), (1, 700), (450, 1), (449, 1), (3, 3)])
def test_what_is_refused_in_any_mode_of_cropping_is_what_timm_cannot_scale(size, crop_mode):
    transform = create_transform((3, 224, 224), crop_pct=0.995, crop_mode=crop_mode)
    try:
        scaled = transform.transforms[0](Image.new("RGB", size)).size
    except ValueError:  # Pillow: "height and width must be > 0"
        scaled = (0, 0)
    fits = 0 < scaled[0] * scaled[1] <= 16_000_000
    if fits:
        check_scaled(size, 225, crop_mode)
    else:
        with pytest.raises(ImageError, match=f"would have {scaled[0]} x|would have 225 x 0|would have 0 x 225"):
            check_scaled(size, 225, crop_mode)


def test_a_large_panorama_may_stay_as_large_as_it_is():
    # 16:1 and 21 megapixels, which become 20.5.
    spec = NetworkSpec(**vars(LARGE) | {"input_size": 1_000})
    assert preparation_of(spec)(Image.new("RGB", (18_400, 1_145))).shape == (3, 1_000, 1_000)


def test_a_line_among_the_validation_pictures_is_named_and_left_out(tmp_path, capfd):
    root = draw(tmp_path, {"line.png": png(2_000_000, 1), "square.png": png(50, 50)})
    loader = validation_loader(data_settings(root), SPEC, 4)
    labels = torch.cat([labels for _, labels in loader])
    assert sorted(labels.tolist()) == [UNREADABLE, 0, 1]
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        f"cannot be decoded, left out: {root}/val/all/line.png (the picture of 2000000 x 1 pixels is"
    )
    with pytest.raises(DataError, match=r"1 of 3 images cannot be decoded, more than 0\.1 %: .*line\.png"):
        loader.unreadable.check()


def test_a_line_among_the_training_pictures_is_cropped_before_it_is_scaled(tmp_path):
    root = draw(tmp_path, {"line.png": png(2_000_000, 1)})
    began = time.process_time()
    images = torch.cat(
        [images for images, _ in training_loader(data_settings(root, batch_size=1), AUGMENTATION, LARGE)]
    )
    assert images.shape == (2, 3, 224, 224)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda: jpeg_of_many_scans(2_000, 100_000), "is a JPEG of more than 100 scans; save it anew"),
        (lambda: tiff_of_large_tiles(100, 12_000), "has 100 x 100 pixels in tiles of 12000 x 12000; save it anew"),
    ],
    ids=["JPEG", "TIFF"],
)
def test_a_file_that_decodes_to_far_more_than_its_pixels_is_refused_at_once(tmp_path, content, told):
    (tmp_path / "bomb.jpg").write_bytes(content())
    began = time.process_time()
    with pytest.raises(ImageError, match=rf"^'.*bomb\.jpg' {told}$"):
        read_picture(tmp_path / "bomb.jpg")
    assert time.process_time() - began < 1


def test_progressive_pictures_and_tiles_as_they_are_usual_are_read(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    noise.save(tmp_path / "progressive.jpg", progressive=True)
    assert read_picture(tmp_path / "progressive.jpg").size == (400, 300)
    (tmp_path / "tiled.tif").write_bytes(tiff_of_large_tiles(100, 512))
    assert read_picture(tmp_path / "tiled.tif").size == (100, 100)


MEASURE = """
import json, re, sys, time
from pathlib import Path
from PIL import Image
from limpq_hub.errors import ImageError
from limpq_hub.pictures import read_picture
from limpq_hub.pictures.preparation import check_scaled, preparation_of
from limpq_hub.zoo.network import NetworkSpec
prepare = preparation_of(NetworkSpec("test_resnet", 4, 224, (0.5,) * 3, (0.2,) * 3, "bicubic", 0.875))
def megabytes(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
for path in [sys.argv[1], *sys.argv[1:]]:
    Path("/proc/self/clear_refs").write_text("5")
    before, began = megabytes("VmRSS"), time.process_time()
    try:
        prepare(read_picture(path))
    except ImageError:
        pass
    print(json.dumps([time.process_time() - began, megabytes("VmHWM") - before]), flush=True)
"""


@pytest.mark.slow
def test_the_worst_input_of_each_kind_takes_little_time_and_memory(tmp_path):
    worst = {
        "small.png": png(200, 200),
        "line.png": png(200_000, 1),
        "column.png": png(1, 1_000_000),
        "narrowest that is scaled.png": png(244, 1),
        "longest.png": png(50_000_000, 1),
        "as wide as is scaled.png": png(60_000, 250),
        "scans.jpg": jpeg_of_many_scans(2_000, 100_000),
        "most scans.jpg": jpeg_of_many_scans(1_000, 90),
        "tiles.tif": tiff_of_large_tiles(100, 12_000),
    }
    for name, content in worst.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in worst)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for name, (seconds, megabytes) in zip(worst, map(json.loads, done.stdout.splitlines()[1:]), strict=True):
        print(f"{name}: {seconds:.2f} s, {megabytes:.0f} MB")
        # Of 50 million pixels as grey and as RGB; of 15 million as RGB, scaled and between the two passes of scaling.
        most = {"longest.png": 500, "as wide as is scaled.png": 200}
        assert megabytes < most.get(name, 100), (name, megabytes)
        assert seconds < 3, (name, seconds)


# --- what is no regular file


def test_a_pipe_a_device_and_a_path_that_cannot_be_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    cases = {
        str(tmp_path / "pipe.png"): "is not a picture that can be read",
        "/dev/zero": "is not a picture that can be read",
        "/dev/null": "is not a picture that can be read",
        f"{tmp_path}/{'a' * 5_000}.png": r"cannot be opened: File name too long; give the path of a picture",
        f"{tmp_path}/zero\0byte.png": "there is no file",
        f"{tmp_path}/pipe.png/inside.png": "cannot be opened: Not a directory",
    }
    for path, told in cases.items():
        caught = []
        thread = threading.Thread(target=lambda path=path, caught=caught: caught.append(refusal(path)), daemon=True)
        thread.start()
        thread.join(5)
        assert caught, f"{path[:80]} hangs"
        assert told.split(";")[0] in caught[0], caught


def refusal(path: str) -> str:
    with pytest.raises(ImageError) as caught:
        read_picture(path)
    return str(caught.value)


# --- at random


def odd_picture(chance: random.Random) -> bytes:
    """A picture of any format, mode, shape and note, whole or damaged."""
    shape = chance.choice([(1, chance.randint(1, 3_000)), (chance.randint(1, 3_000), 1), (17, 23), (64, 64), (2, 900)])
    mode = chance.choice(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
    base = Image.effect_noise((shape[1], shape[0]), 80)
    picture = Image.fromarray(np.asarray(base).astype(np.uint16) * 257) if mode == "I;16" else base.convert("RGB")
    if mode in ("I", "F"):
        picture = base.convert(mode)
    elif mode != "I;16":
        picture = picture.convert("L").convert("LA") if mode == "LA" else picture.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = chance.choice([1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65_535])
    kind, buffer = chance.choice(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]), io.BytesIO()
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    if mode == "I" and kind == "PNG":
        kind = "TIFF"
    try:
        picture.save(buffer, kind, **options)
    except (OSError, ValueError, KeyError):  # no such mode in this format
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, kind, **options)
    content = bytearray(buffer.getvalue())
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(min(len(content), chance.choice([60, 400, 10**9])))] = chance.randrange(256)
    if chance.random() < 0.2:
        del content[chance.randrange(len(content)) :]
    return bytes(content)


def check_odd_pictures(folder: Path, seed: int, count: int) -> None:
    """Each is read alike by `predict` and by training, or refused by both, quickly."""
    chance, path = random.Random(seed), folder / "odd.png"

    class OnePicture:
        class_to_idx = {"all": 0}  # noqa: RUF012

        def __getitem__(self, index: int):
            return path.open("rb"), 0

        def filename(self, index: int) -> str:
            return "odd.png"

    for turn in range(count):
        path.write_bytes(odd_picture(chance))
        pictures = WholePictures(FileSource("folder", OnePicture(), [0]), preparation_of(SPEC), SPEC.input_shape)
        began = time.process_time()
        image, label = pictures[0]
        seconds = time.process_time() - began
        try:
            # Training reads larger ones than `predict` does.
            expected = preparation_of(SPEC)(read_picture(path, most_pixels=MOST_PIXELS_TRAINED))
        except ImageError:
            expected = None
        assert label == (UNREADABLE if expected is None else 0), (seed, turn)
        assert expected is None or torch.equal(image, expected), (seed, turn)
        # 172 megapixels, of the 179 that training reads at most, took 4.6 s of an idle core and 5.3 s of a busy one.
        assert seconds < 10, (seed, turn)


def test_odd_pictures_are_read_alike_by_predict_and_training_or_refused_by_both(tmp_path, capfd):
    check_odd_pictures(tmp_path, seed=0, count=250)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_thousands_of_odd_pictures_are_read_alike_by_predict_and_training_or_refused_by_both(tmp_path, capfd, seed):
    check_odd_pictures(tmp_path, seed, count=1_000)
