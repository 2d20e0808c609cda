"""Tests of pictures of visitors: each kind is seen as its reference conversion, and what is too large costs nothing."""

import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from _pictures_in import MOST_BYTES, picture_from
from PIL import Image, ImageOps

from limpq_hub import search
from limpq_hub.errors import ImageError
from limpq_hub.pictures import top_classes

APP = Path(__file__).parents[2] / "app"


def rgb(lion: Path) -> np.ndarray:
    return np.asarray(Image.open(lion).convert("RGB"))


def grey_of(scene: np.ndarray) -> np.ndarray:
    """Brightness by ITU-R 601, 0..255."""
    return scene @ np.array([0.299, 0.587, 0.114])


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    # Copies: Pillow keeps settings of one format in the picture, and falls over them in the next.
    frames = {name: [frame.copy() for frame in options[name]] for name in options if name == "append_images"}
    picture.copy().save(buffer, kind, **options | frames)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def with_alpha(scene: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """The scene with the lower half at a quarter of its opacity, and what shows on white."""
    alpha = np.full(scene.shape[:2], 255, np.uint8)
    alpha[len(alpha) // 2 :] = 64
    share = alpha[..., None] / 255
    shown = np.rint(scene * share + 255 * (1 - share)).astype(np.uint8)
    return Image.fromarray(np.dstack([scene, alpha])), shown


# What undoes each EXIF orientation, so that the stored picture is upright again.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def kinds(scene: np.ndarray) -> dict[str, tuple[bytes, np.ndarray, float]]:
    """File content, the picture that a person sees in it, and how far a probability may be off, by name of the kind."""
    photo, grey = Image.fromarray(scene), grey_of(scene)
    palette = photo.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    looked_up = np.asarray(palette.convert("RGB"))
    wide = (np.rint(grey / 255 * 65535)).astype(np.uint16)
    level, black_white = Image.fromarray(np.rint(grey).astype(np.uint8)), photo.convert("1")
    dithered = three(np.asarray(black_white) * 255.0)
    layered, shown = with_alpha(scene)
    inks = Image.merge(
        "CMYK", [*(Image.fromarray(255 - scene[..., band]) for band in range(3)), Image.new("L", photo.size)]
    )
    others = [Image.new("RGB", photo.size, color) for color in ("lime", "blue")]
    pages = {"save_all": True, "append_images": others}
    moving = pages | {"duration": 90}
    grey_alpha = Image.merge("LA", [level, layered.getchannel("A")])
    share = np.asarray(layered.getchannel("A")) / 255
    turned_photo = Image.fromarray(np.ascontiguousarray(TURNED[6](scene)))
    masked = palette.copy()
    masked.info["transparency"] = bytes([255] * 256)
    one = np.full((1, 1, 3), (200, 30, 10), np.uint8)
    wideness, height = np.repeat(scene[:1], 4, 0), np.repeat(scene[:, :1], 3, 1)
    found = {
        "RGB PNG": (encoded(photo, "PNG"), scene, 1e-6),
        "RGB BMP": (encoded(photo, "BMP"), scene, 1e-6),
        "RGB TIFF": (encoded(photo, "TIFF"), scene, 1e-6),
        "RGB TIFF, LZW": (encoded(photo, "TIFF", compression="tiff_lzw"), scene, 1e-6),
        "RGB WebP, lossless": (encoded(photo, "WEBP", lossless=True), scene, 1e-6),
        "RGB WebP": (encoded(photo, "WEBP", quality=95), scene, 0.15),
        "JPEG": (encoded(photo, "JPEG", quality=97, subsampling=0), scene, 0.1),
        "JPEG, progressive": (encoded(photo, "JPEG", quality=97, subsampling=0, progressive=True), scene, 0.1),
        "JPEG, fewer colors": (encoded(photo, "JPEG", quality=95), scene, 0.15),
        "JPEG, two pictures (MPO)": (encoded(photo, "MPO", quality=97, **pages), scene, 0.15),
        "grey JPEG": (encoded(level, "JPEG", quality=97), three(grey), 0.1),
        "CMYK JPEG": (encoded(inks, "JPEG", quality=97), scene, 0.1),
        "CMYK TIFF": (encoded(inks, "TIFF"), scene, 1e-6),
        "palette PNG": (encoded(palette, "PNG"), looked_up, 1e-6),
        "palette GIF": (encoded(palette, "GIF"), looked_up, 1e-6),
        "palette BMP": (encoded(palette, "BMP"), looked_up, 1e-6),
        "palette TIFF": (encoded(palette, "TIFF"), looked_up, 1e-6),
        "palette PNG with opacities": (encoded(masked, "PNG", transparency=bytes([255] * 256)), looked_up, 1e-6),
        "grey PNG": (encoded(level, "PNG"), three(grey), 1e-6),
        "grey BMP": (encoded(level, "BMP"), three(grey), 1e-6),
        "grey TIFF": (encoded(level, "TIFF"), three(grey), 1e-6),
        "grey GIF": (encoded(level, "GIF"), three(grey), 1e-6),
        "1-bit PNG": (encoded(black_white, "PNG"), dithered, 1e-6),
        "1-bit BMP": (encoded(black_white, "BMP"), dithered, 1e-6),
        "1-bit TIFF": (encoded(black_white, "TIFF"), dithered, 1e-6),
        "1-bit TIFF, fax": (encoded(black_white, "TIFF", compression="group4"), dithered, 1e-6),
        "16-bit grey PNG": (encoded(Image.fromarray(wide), "PNG"), three(grey), 0.05),
        "16-bit grey TIFF": (encoded(Image.fromarray(wide), "TIFF"), three(grey), 0.05),
        "grey PNG with alpha": (encoded(grey_alpha, "PNG"), three(grey * share + 255 * (1 - share)), 0.05),
        "RGBA PNG": (encoded(layered, "PNG"), shown, 0.05),
        "RGBA WebP": (encoded(layered, "WEBP", lossless=True, exact=True), shown, 0.05),
        "RGBA TIFF": (encoded(layered, "TIFF"), shown, 0.05),
        "animated GIF": (encoded(palette, "GIF", **moving), looked_up, 1e-6),
        "animated WebP": (encoded(photo, "WEBP", lossless=True, **moving), scene, 1e-6),
        "animated PNG": (encoded(photo, "PNG", **moving), scene, 1e-6),
        "TIFF of several pages": (encoded(photo, "TIFF", **pages), scene, 1e-6),
        "RGB PNG, turned (EXIF)": (encoded(turned_photo, "PNG", exif=exif(6)), scene, 1e-6),
        "one pixel": (encoded(Image.fromarray(one), "PNG"), one, 1e-6),
        "very wide": (encoded(Image.fromarray(wideness), "PNG"), wideness, 1e-6),
        "very high": (encoded(Image.fromarray(height), "PNG"), height, 1e-6),
    }  # fmt: skip
    for orientation, turned in TURNED.items():
        stored = Image.fromarray(np.ascontiguousarray(turned(scene)))
        content = encoded(stored, "TIFF", exif=exif(orientation))
        found[f"EXIF orientation {orientation}"] = (content, scene, 1e-6)
    return found


def test_at_least_forty_kinds_of_pictures_are_seen_as_a_person_sees_them(tmp_path, lion, networks, request_3g):
    # Of more bits than 3G has, which shows what differs in a picture, and less of what rounding makes of it.
    network, wrong = networks.get(request_3g.model, search(request_3g.model, bitops="6G").policy), []
    tested = kinds(rgb(lion))
    assert len(tested) >= 40
    for kind, (content, expected, tolerance) in tested.items():
        # A name that tells nothing, or the wrong thing.
        (tmp_path / "picture.gif").write_bytes(content)
        found = picture_from(tmp_path / "picture.gif")
        assert found.mode == "RGB", kind
        guesses = {guess.id: guess.probability for guess in top_classes(network, found, 200)}
        reference = {guess.id: guess.probability for guess in top_classes(network, Image.fromarray(expected), 200)}
        error = max(abs(guesses[name] - reference[name]) for name in reference)
        if error > tolerance or max(guesses, key=guesses.get) != max(reference, key=reference.get):
            wrong.append(f"{kind}: off by {error:.4f}")
    assert wrong == []


def test_the_stored_orientations_are_those_that_pillow_turns_back(lion):
    scene = rgb(lion)
    for orientation, turned in TURNED.items():
        stored = Image.fromarray(np.ascontiguousarray(turned(scene)))
        stored.getexif()[0x0112] = orientation
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(stored)), scene), orientation


def png(width: int, height: int, data: bytes = b"", extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + extra
        + chunk(b"IDAT", data or zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def gif(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.new("P", (16, 16)), "GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def bmp(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def tiff(width: int, height: int) -> bytes:
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (278, height), (279, 10)]
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(entries)) + fields + b"\x00" * 4


def webp(width: int, height: int) -> bytes:
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    place = content.index(b"VP8L") + 9
    content[place : place + 4] = ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(content)


def animated_webp(width: int, height: int) -> bytes:
    frames = [Image.new("RGB", (16, 16), "red")]
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "WEBP", lossless=True, save_all=True, append_images=frames))
    place = content.index(b"VP8X") + 12
    content[place : place + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(content)


def black(width: int, height: int) -> bytes:
    """A PNG of some kilobytes that is whole, and would take three bytes for each of its pixels."""
    packer, row = zlib.compressobj(9), bytes(1 + 3 * width)
    return png(width, height, b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()]))


def packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("picture.png", content)
    return buffer.getvalue()


BOMBS = {
    "PNG of 13,000 x 13,000": lambda: black(13_000, 13_000),
    "PNG just above": lambda: png(5_001, 5_000),
    "PNG of the most": lambda: png(2**31 - 1, 2**31 - 1),
    "JPEG": lambda: jpeg(65_000, 65_000),
    "GIF": lambda: gif(65_535, 65_535),
    "BMP": lambda: bmp(100_000, 100_000),
    "TIFF": lambda: tiff(2**31 - 1, 2**31 - 1),
    "WebP": lambda: webp(16_383, 16_383),
    "animated WebP": lambda: animated_webp(16_383, 16_383),
    "text that unpacks": lambda: png(10, 10, extra=b"" + _text_bomb()),
    "truncated JPEG": lambda: jpeg(4_000, 4_000)[:300],
    "ZIP": lambda: packed(bytes(10_000_000)),
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>",
    "text": lambda: b"hello" * 1000,
    "nothing": lambda: b"",
    "too many bytes": lambda: bytes(MOST_BYTES + 1),
}


def _text_bomb() -> bytes:
    content = b"Comment\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


MEASURE = """
import json, re, sys, time
from pathlib import Path
from PIL import Image
Image.init()
from _pictures_in import picture_from
from limpq_hub.errors import ImageError
from limpq_hub.pictures import read_picture
def megabytes(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
def measured(work):
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew; that of getrusage holds the parent's
    before, began = megabytes("VmRSS"), time.process_time()
    try:
        work()
        message = None
    except ImageError as error:
        message = str(error)
    print(json.dumps([message, time.process_time() - began, megabytes("VmHWM") - before]), flush=True)
measured(lambda: bytearray(b"x") * 100 * 2**20)  # 100 megabytes, given back at once
for path in sys.argv[1:]:
    measured(lambda: picture_from(path))
"""


def test_bombs_are_refused_in_a_sentence_within_300_ms_of_cpu_and_64_megabytes(tmp_path):
    paths = []
    for place, content in enumerate(BOMBS.values()):
        paths.append(tmp_path / f"{place}.png")
        paths[-1].write_bytes(content())
    assert len(paths) >= 12
    command = [sys.executable, "-c", MEASURE, *map(str, paths)]
    done = subprocess.run(command, cwd=APP, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    known, *found = map(json.loads, done.stdout.splitlines())
    assert 95 < known[2] < 110, "the measure sees what is given back at once"
    results = dict(zip(BOMBS, found, strict=True))
    for name, (message, seconds, megabytes) in results.items():
        assert message is not None, name
        assert message.startswith("the picture "), (name, message)
        assert len(message) < 200, (name, message)
        assert str(tmp_path) not in message, (name, message)
        assert seconds < 0.3, (name, seconds)
        assert megabytes < 64, (name, megabytes)


def test_fields_of_a_type_that_pillow_does_not_expect_are_told_in_a_sentence(tmp_path):
    whole, told = encoded(Image.new("RGB", (24, 20)), "TIFF"), set()
    start = struct.unpack_from("<I", whole, 4)[0]
    for place in range(struct.unpack_from("<H", whole, start)[0]):
        for kind in range(1, 13):
            content = bytearray(whole)
            struct.pack_into("<HII", content, start + 2 + 12 * place + 2, kind, 1, len(whole))
            (tmp_path / "a").write_bytes(bytes(content) + struct.pack("<II", 24, 1))
            try:
                picture_from(tmp_path / "a")
            except ImageError as error:
                told.add(str(error))
    assert "the picture is damaged: what it says of itself makes no sense; save it anew" in told
    assert all(sentence.startswith("the picture ") and str(tmp_path) not in sentence for sentence in told)


def test_the_limits_are_those_that_the_page_names(tmp_path):
    (tmp_path / "a").write_bytes(png(5_001, 5_000))
    with pytest.raises(ImageError, match=r"^the picture has 5001 x 5000 pixels, more than 25,000,000; scale it down"):
        picture_from(tmp_path / "a")
    (tmp_path / "a").write_bytes(bytes(MOST_BYTES + 1))
    with pytest.raises(ImageError, match=r"^the picture has 10\.0 MB, more than 10 MB; scale it down first$"):
        picture_from(tmp_path / "a")


def test_no_picture_and_one_that_is_gone_say_what_to_do(tmp_path):
    with pytest.raises(ImageError, match="there is no picture yet; upload one or take an example"):
        picture_from(None)
    with pytest.raises(ImageError, match="the picture is no longer there; upload it again"):
        picture_from(tmp_path / "gone.png")
