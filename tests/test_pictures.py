"""Tests of pictures from files: every kind of file shows what a person sees in it, and what is none is refused."""

import io
import re
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, features

from limpq_hub import load
from limpq_hub.errors import ImageError
from limpq_hub.pictures import Guess, most_likely, read_picture, top_classes
from limpq_hub.pictures.jpeg_scans import has_more_scans

SIZE = (24, 16)  # width, height


@pytest.fixture
def scene() -> np.ndarray:
    """A smooth RGB picture, [16, 24, 3], 0..255, no two corners alike."""
    rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    return np.stack([columns * 10, rows * 15, 255 - columns * 5 - rows * 5], axis=-1).astype(np.uint8)


@pytest.fixture
def saved(tmp_path):
    """A function that saves a Pillow picture in a format, and returns the path."""

    def save(picture: Image.Image, kind: str, name: str | None = None, **options):
        path = tmp_path / (name or f"picture.{kind.lower()}")
        picture.save(path, kind, **options)
        return path

    return save


def pixels(path) -> np.ndarray:
    """The picture as `read_picture` gives it, [height, width, 3]."""
    picture = read_picture(path)
    assert isinstance(picture, Image.Image)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def header(width: int, height: int, color: int = 2) -> bytes:
    """A PNG of 8 bits per channel that says how large it is and holds no pixels."""
    return png(width, height, 8, color, b"")


def png(width: int, height: int, bits: int, color: int, rows: bytes, transparent: bytes = b"") -> bytes:
    """A PNG of rows that each begin with a zero, for no filter; `transparent` is its tRNS chunk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = [(b"IHDR", size), *([(b"tRNS", transparent)] if transparent else [])]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*named) for named in chunks)


def grey_tiff(
    width: int, bits: int, pixels: bytes, *, kind: int = 1, white_is_zero: bool = False, order: str = "<"
) -> bytes:
    """A TIFF of one row of grey; kind 1 is unsigned, 2 signed, 3 float. Big-endian ones are compressed."""
    pixels = zlib.compress(pixels) if order == ">" else pixels
    tags = {256: width, 257: 1, 258: bits, 259: 8 if order == ">" else 1, 262: 0 if white_is_zero else 1}
    place = 8 + 2 + 12 * 10 + 4
    tags |= {273: place, 277: 1, 278: 1, 279: len(pixels), 339: kind}
    fields = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    begin = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return begin + fields + struct.pack("<I", 0) + pixels


def mode_or_refusal(path) -> str:
    """The mode of the picture, which is "RGB" also of one that is refused by name."""
    try:
        return read_picture(path).mode
    except ImageError as error:
        return "RGB" if path.name in str(error) else str(error)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_a_lossless_picture_comes_back_exactly(saved, scene, kind, options):
    assert np.array_equal(pixels(saved(Image.fromarray(scene), kind, **options)), scene)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_lossy_picture_comes_back_almost(saved, scene, kind):
    found = pixels(saved(Image.fromarray(scene), kind, quality=95))
    assert np.abs(found - scene).mean() < 6


def test_a_path_may_be_text_and_a_name_may_lie_about_the_format(saved, scene):
    path = saved(Image.fromarray(scene), "PNG", "picture.gif")
    assert np.array_equal(pixels(str(path)), scene)


def test_an_animation_shows_its_first_frame(saved):
    frames = [Image.new("RGB", SIZE, color) for color in ("red", "lime", "blue")]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        path = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
        with Image.open(path) as animation:
            assert animation.n_frames == 3
        assert (pixels(path) == [255, 0, 0]).all(), kind


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_a_palette_is_looked_up(saved, kind):
    picture = Image.new("P", SIZE, 0)
    picture.putpalette([10, 200, 30, 250, 0, 90])
    picture.putpixel((5, 3), 1)
    found = pixels(saved(picture, kind))
    assert found[3, 5].tolist() == [250, 0, 90]
    assert found[0, 0].tolist() == [10, 200, 30]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_shows_white_and_not_the_hidden_color(saved, kind):
    layered = np.zeros((16, 24, 4), dtype=np.uint8)
    layered[..., 0] = 200
    layered[:8, :, 3] = 0
    layered[8:12, :, 3] = 51
    layered[12:, :, 3] = 255
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found = pixels(saved(Image.fromarray(layered), kind, **options))
    assert (found[:8] == 255).all()
    # By hand: a fifth of (200, 0, 0) over white.
    assert np.abs(found[8:12] - [244, 204, 204]).max() <= 1
    assert (found[12:] == [200, 0, 0]).all()


@pytest.mark.parametrize(("mode", "color"), [("P", 1), ("RGB", (1, 2, 3)), ("L", 77)])
def test_a_transparent_color_of_a_png_shows_white(saved, mode, color):
    picture = Image.new(mode, SIZE, 0)
    if mode == "P":
        picture.putpalette([0, 0, 0, 9, 9, 9])
    picture.paste(color, (0, 0, 8, 16))
    found = pixels(saved(picture, "PNG", transparency=color))
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] == 0).all()


def test_grey_with_transparency_is_read(saved):
    picture = Image.merge("LA", [Image.new("L", SIZE, 100), Image.new("L", SIZE, 255)])
    picture.putpixel((2, 1), (0, 0))
    found = pixels(saved(picture, "PNG"))
    assert found[0, 0].tolist() == [100, 100, 100]
    assert found[1, 2].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_brightness(saved, kind):
    ramp = np.linspace(0, 65535, 24 * 16).astype(np.uint16).reshape(16, 24)
    found = pixels(saved(Image.fromarray(ramp), kind))
    assert np.abs(found - (ramp / 257)[..., None]).max() <= 1
    assert (found[0, 0].tolist(), found[-1, -1].tolist()) == ([0, 0, 0], [255, 255, 255])


# By hand: the transparent color, and one that is near it, in every number of bits that Pillow changes.
TRANSPARENT = {
    "2-bit grey": (png(4, 1, 2, 0, b"\0\x1b", b"\0\x01"), [0, 255, 170, 255]),
    "4-bit grey": (png(4, 1, 4, 0, b"\0\x05\x6a", b"\0\x05"), [0, 255, 102, 170]),
    "16-bit grey": (png(2, 1, 16, 0, b"\0\x64\x01\x64\x02", b"\x64\x01"), [255, 99]),
    "16-bit RGB": (png(2, 1, 16, 2, b"\0" + b"\x64\x01" * 3 + b"\x65\x01" * 3, b"\x64\x01" * 3), [255, 101]),
}


@pytest.mark.parametrize(("content", "shown"), TRANSPARENT.values(), ids=TRANSPARENT)
def test_a_transparent_color_shows_white_in_any_number_of_bits(tmp_path, content, shown):
    (tmp_path / "picture.png").write_bytes(content)
    assert pixels(tmp_path / "picture.png")[0, :, 0].tolist() == shown


FLOATS = struct.pack("<3f", 0, 0.5, 1)
GREYS = {
    "16 bits, white is zero": (
        grey_tiff(3, 16, struct.pack("<3H", 0, 32896, 65535), white_is_zero=True),
        [255, 127, 0],
    ),
    "12 bits": (grey_tiff(2, 12, b"\xff\xf8\x00"), [255, 127]),
    "floats": (grey_tiff(3, 32, FLOATS, kind=3), [0, 127, 255]),
    "floats, white is zero": (grey_tiff(3, 32, FLOATS, kind=3, white_is_zero=True), [255, 127, 0]),
    "PFM": (b"Pf\n3 1\n-1.0\n" + FLOATS, [0, 127, 255]),
}


@pytest.mark.parametrize(("content", "shown"), GREYS.values(), ids=GREYS)
def test_grey_is_scaled_by_what_its_file_says_is_white(tmp_path, content, shown):
    (tmp_path / "picture.tif").write_bytes(content)
    assert pixels(tmp_path / "picture.tif")[0, :, 0].tolist() == shown


NO_WHITE = "and nothing says which of them is white; save it as grey of 8 or 16 bits"
UNKNOWN_WHITE = {
    "signed 8 bits": (grey_tiff(1, 8, b"\x80", kind=2), f"its grey is in signed numbers, {NO_WHITE}"),
    "signed 16 bits": (grey_tiff(1, 16, b"\0\x80", kind=2), f"its grey is in signed numbers, {NO_WHITE}"),
    "32 bits": (grey_tiff(1, 32, b"\xff\xff\xff\xff"), f"its grey is in numbers of 32 bits, {NO_WHITE}"),
    "large floats": (
        grey_tiff(2, 32, struct.pack("<2f", -1, 812.5), kind=3),
        "its grey goes from -1 to 812.5, and of floats 0 is black and 1 is white; scale it to 0..1, or save it as grey "
        "of 8 or 16 bits",
    ),
    "NaN": (grey_tiff(2, 32, struct.pack("<2f", 0.5, float("nan")), kind=3), "its grey goes from nan to nan, and of "),
    "big-endian floats": (
        grey_tiff(1, 32, struct.pack(">f", 1), kind=3, order=">"),
        "it holds compressed floats in big-endian order, which Pillow mixes up; save it uncompressed, or as grey of 8",
    ),
}


@pytest.mark.parametrize(("content", "reason"), UNKNOWN_WHITE.values(), ids=UNKNOWN_WHITE)
def test_grey_of_which_nothing_says_what_is_white_is_refused_and_not_shown_wrong(tmp_path, content, reason):
    (tmp_path / "picture.tif").write_bytes(content)
    with pytest.raises(ImageError, match=rf"picture\.tif' is not readable: {re.escape(reason)}"):
        read_picture(tmp_path / "picture.tif")


@pytest.mark.parametrize(("mode", "white"), [("L", 255), ("1", 1)])
def test_grey_and_black_and_white_keep_their_brightness(saved, mode, white):
    picture = Image.new(mode, SIZE, 0)
    picture.paste(white, (0, 0, 12, 16))
    found = pixels(saved(picture, "PNG"))
    assert (found[:, :12] == 255).all()
    assert (found[:, 12:] == 0).all()


@pytest.mark.parametrize("name", ["picture.jpg", "picture.gif"])
def test_the_inks_of_a_cmyk_jpeg_become_light(saved, name):
    inks = {"cyan": (255, 0, 0, 0), "red": (0, 255, 255, 0), "white": (0, 0, 0, 0), "black": (0, 0, 0, 255)}
    light = {"cyan": (0, 255, 255), "red": (255, 0, 0), "white": (255, 255, 255), "black": (0, 0, 0)}
    for ink, amounts in inks.items():
        found = pixels(saved(Image.new("CMYK", SIZE, amounts), "JPEG", name, quality=95))
        assert np.abs(found - light[ink]).max() <= 4, ink


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda upright: upright),
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (4, lambda upright: upright[::-1]),
        (5, lambda upright: upright.transpose(1, 0, 2)),
        (6, lambda upright: np.rot90(upright, 1)),
        (7, lambda upright: np.rot90(upright[::-1], 1)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_a_picture_turned_by_the_camera_is_upright(saved, scene, kind, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turned(scene)))
    found = pixels(saved(stored, kind, exif=exif, quality=100))
    assert found.shape == scene.shape
    assert np.abs(found - scene).mean() < 8


def test_a_text_file_is_no_picture(tmp_path):
    for content in (b"hello", b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x80\x04K\x01."):
        (tmp_path / "text.jpg").write_bytes(content)
        with pytest.raises(
            ImageError, match=r"'.*text\.jpg' is not a picture that can be read; give a JPEG, PNG, WebP or"
        ):
            read_picture(tmp_path / "text.jpg")


def test_a_postscript_program_is_refused_and_not_run(saved, scene, monkeypatch):
    path, runs = saved(Image.fromarray(scene), "EPS", "picture.jpg"), []
    # Pillow shows PostScript by running it in Ghostscript, where that is installed.
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *arguments: runs.append(arguments) or Image.core.new("RGB", SIZE)
    )
    with pytest.raises(
        ImageError, match=r"picture\.jpg' is not a picture that can be read; give a JPEG, PNG, WebP or GIF"
    ):
        read_picture(path)
    assert not runs


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(ImageError, match="is not a picture that can be read; give a JPEG, PNG, WebP or GIF file"):
        read_picture(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"there is no file '.*no\.jpg'; give the path of a picture"):
        read_picture(tmp_path / "no.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_picture_is_refused_and_never_half_shown(tmp_path, kind):
    buffer, rng = io.BytesIO(), np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, kind)
    data = buffer.getvalue()
    for percent in (1, 10, 30, 50, 70, 90):
        (tmp_path / "cut.img").write_bytes(data[: len(data) * percent // 100])
        with pytest.raises(
            ImageError, match=r"cut\.img' is (damaged and cannot be decoded|not a picture that can be read)"
        ):
            read_picture(tmp_path / "cut.img")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "PPM", "TGA", "AVIF"])
def test_a_damaged_picture_is_read_or_refused_and_nothing_else(tmp_path, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    buffer, rng = io.BytesIO(), np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, kind, **options)
    data = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    for turn in range(150):
        damaged = data.copy()
        # Headers matter most: half of the damage is in the first 200 bytes.
        places = rng.integers(0, min(200, len(data)) if turn % 2 else len(data), 3)
        damaged[places] = rng.integers(0, 256, 3)
        (tmp_path / "damaged.img").write_bytes(damaged.tobytes())
        assert mode_or_refusal(tmp_path / "damaged.img") == "RGB"


def jpeg(scene: np.ndarray, **options) -> bytes:
    """A JPEG of the scene."""
    buffer = io.BytesIO()
    Image.fromarray(scene).save(buffer, "JPEG", **options)
    return buffer.getvalue()


SCAN = b"\xff\xda"


@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_the_end_of_a_jpeg_such_as_the_video_of_a_motion_photo_is_no_scan(tmp_path, scene, progressive):
    photo = jpeg(scene, progressive=progressive)
    video = np.random.default_rng(0).bytes(12_000_000)
    assert video.count(SCAN) > 100
    (tmp_path / "motion.jpg").write_bytes(photo + video)
    (tmp_path / "photo.jpg").write_bytes(photo)
    assert np.array_equal(pixels(tmp_path / "motion.jpg"), pixels(tmp_path / "photo.jpg"))


def test_what_a_segment_of_a_jpeg_holds_is_no_scan_and_does_not_end_it(tmp_path, scene):
    photo = jpeg(scene)
    comment = (SCAN + b"\0\2" + b"\xff\xd9") * 200
    (tmp_path / "photo.jpg").write_bytes(jpeg(scene, comment=comment))
    assert np.array_equal(np.asarray(read_picture(tmp_path / "photo.jpg")), np.asarray(Image.open(io.BytesIO(photo))))
    for one_scan in (photo, jpeg(scene, comment=comment)):
        assert has_more_scans(one_scan, 0)
        assert not has_more_scans(one_scan, 1)


@pytest.mark.parametrize(
    "between",
    [
        b"\xff\0",
        b"\xff\xd0",
        b"\xff\xff\xff",
        b"\x12" * 70_000,
        b"\xff\x01\0\x09",
        b"\xff\x02\0\x09",
        b"\xff\xe1\0\4\xff\xd9",
        b"\xff\xe1\0\0",
    ],
    ids=["a stuffed zero", "a restart", "fill", "data", "TEM", "reserved", "an end in a segment", "a length of 0"],
)
def test_every_scan_that_a_decoder_would_read_is_counted(tmp_path, scene, between):
    photo = jpeg(scene, progressive=True)
    last = photo[photo.rindex(SCAN) : -2]
    scans = photo.count(SCAN)
    content = photo[:-2] + (between + last) * 200 + b"\xff\xd9" + last * 50
    assert has_more_scans(content, scans + 199)
    assert not has_more_scans(content, scans + 200)
    (tmp_path / "bomb.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"bomb\.jpg' is a JPEG of more than 100 scans; save it anew$"):
        read_picture(tmp_path / "bomb.jpg")


def test_scans_are_counted_fast_in_large_files(scene):
    photo = jpeg(scene)[:-2]
    for filler in (b"\xff\0", b"\xff\xff", b"\0\0"):
        began = time.process_time()
        assert not has_more_scans(photo + filler * 5_000_000, 1)
        assert time.process_time() - began < 3
    assert has_more_scans(photo + (SCAN + b"\0\2") * 50_000_000, 100)  # it reads no further than it must


@pytest.mark.parametrize(("width", "height"), [(8000, 8000), (50_001, 1000), (1, 50_000_001)])
def test_a_picture_of_too_many_pixels_is_refused_from_its_header(tmp_path, width, height):
    (tmp_path / "large.png").write_bytes(header(width, height))
    message = rf"large\.png' has {width} x {height} pixels, more than 50,000,000; scale it down first"
    with pytest.raises(ImageError, match=message):
        read_picture(tmp_path / "large.png")


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_from_its_header_at_once(tmp_path, width, height):
    (tmp_path / "bomb.png").write_bytes(header(width, height))
    began = time.perf_counter()
    with pytest.raises(ImageError, match=r"bomb\.png' .*[0-9]{9} ?pixels|bomb\.png' has \d+ x \d+ pixels"):
        read_picture(tmp_path / "bomb.png")
    assert time.perf_counter() - began < 3


def test_a_decompression_bomb_is_called_too_large_and_not_damaged(tmp_path):
    (tmp_path / "bomb.png").write_bytes(header(20_000, 20_000))
    with pytest.raises(ImageError, match=r"pixels, more than 50,000,000; scale it down first"):
        read_picture(tmp_path / "bomb.png")


def test_a_picture_just_small_enough_is_looked_into(tmp_path):
    (tmp_path / "empty.png").write_bytes(header(10_000, 5_000, color=0))
    with pytest.raises(ImageError, match=r"empty\.png' is damaged and cannot be decoded: "):
        read_picture(tmp_path / "empty.png")


def test_a_picture_can_be_called_by_another_name_and_refused_at_fewer_pixels(tmp_path):
    (tmp_path / "secret-path.png").write_bytes(header(5_001, 5_000))
    with pytest.raises(ImageError) as caught:
        read_picture(tmp_path / "secret-path.png", name="the picture", most_pixels=25_000_000)
    assert str(caught.value) == "the picture has 5001 x 5000 pixels, more than 25,000,000; scale it down first"
    (tmp_path / "secret-path.png").write_bytes(b"text")
    with pytest.raises(ImageError, match=r"^the picture is not a picture that can be read; give a JPEG, PNG, WebP"):
        read_picture(tmp_path / "secret-path.png", name="the picture")


def test_a_name_with_control_characters_is_shown_escaped():
    with pytest.raises(ImageError, match=r"there is no file '.*\\x1b\[31m\\n\.jpg'"):
        read_picture("\x1b[31m\n.jpg")


def test_top_classes_are_the_largest_probabilities_in_order(tiny, scene):
    model = load(tiny.name, bitops="w3a3")
    guesses = top_classes(model, Image.fromarray(scene), count=10)
    assert all(isinstance(guess, Guess) for guess in guesses)
    assert sorted(guess.id for guess in guesses) == [f"n{index:04d}" for index in range(10)]
    assert {guess.name for guess in guesses} == {f"noise {index}" for index in range(10)}
    probabilities = [guess.probability for guess in guesses]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert top_classes(model, Image.fromarray(scene), count=3) == guesses[:3]
    assert top_classes(model, Image.fromarray(scene), count=99) == guesses


def test_the_most_likely_classes_of_any_network_are_those_of_top_classes(tiny, scene):
    model = load(tiny.name, bitops="w3a3")
    spec, classes = model.limpq.network, model.limpq.classes
    expected = top_classes(model, Image.fromarray(scene))
    del model.limpq
    assert most_likely(model, Image.fromarray(scene), spec, classes) == expected


def test_top_classes_prepare_the_picture_as_the_network_was_validated(tiny):
    model = load(tiny.name, bitops="w3a3")
    # One color, so that scaling and cropping do not matter: only the normalization is left.
    guesses = top_classes(model, Image.new("RGB", (50, 40), (255, 0, 51)), count=10)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    image = ((torch.tensor([1.0, 0.0, 0.2]) - mean) / std)[None, :, None, None].expand(1, 3, 32, 32)
    with torch.inference_mode():
        expected = model(image)[0].softmax(-1)
    found = {int(guess.id[1:]): guess.probability for guess in guesses}
    torch.testing.assert_close(torch.tensor([found[index] for index in range(10)]), expected, atol=2e-5, rtol=1e-3)


def test_a_picture_that_is_not_square_is_cropped_at_the_center(tiny):
    model = load(tiny.name, bitops="w3a3")
    wide = Image.new("RGB", (96, 32), "black")
    wide.paste(Image.new("RGB", (32, 32), "white"), (32, 0))
    white = top_classes(model, Image.new("RGB", (32, 32), "white"), count=10)
    assert [guess.id for guess in top_classes(model, wide, count=10)] == [guess.id for guess in white]
