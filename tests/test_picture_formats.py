"""Kinds of pictures that some installations read: read where they can be, else told with what makes them readable."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from limpq_hub.errors import DataError, ImageError
from limpq_hub.pictures import formats, read_picture
from limpq_hub.train.data.picture_files import pictures_below

AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
INSTALL = {
    "AVIF": "AVIF{} read after pip install -U pillow, whose wheels read it since version 11.3",
    "HEIC": 'HEIC{} read after pip install "limpq-hub[heic]"',
}
SCENE = np.stack([*np.meshgrid(np.arange(0, 240, 4), np.arange(0, 160, 4)), np.full((40, 60), 90)], axis=-1).astype(
    np.uint8
)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation with an old Pillow and without pillow-heif."""
    looked_up = (formats._pillow_reads_avif, formats._heif_is_registered)
    monkeypatch.setattr(formats.features, "check", lambda feature: False)
    monkeypatch.setattr(formats, "find_spec", lambda module: None)
    for function in looked_up:
        function.cache_clear()
    yield
    for function in looked_up:
        function.cache_clear()


def begun(brand: bytes) -> bytes:
    """Return the first box of a file of the family, and nothing behind it."""
    return (16).to_bytes(4, "big") + b"ftyp" + brand + bytes(4)


def phone_picture(kind: str, orientation: int = 1) -> bytes:
    """Return the scene as a phone stores it: turned, with a note how."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored, buffer = np.ascontiguousarray(np.rot90(SCENE, 1) if orientation == 6 else SCENE), io.BytesIO()
    if kind == "HEIF":
        # By itself, not as a plug-in of Pillow: only so it notes the turn as phones do, outside of EXIF as well.
        pillow_heif = pytest.importorskip("pillow_heif")
        size = (stored.shape[1], stored.shape[0])
        pillow_heif.from_bytes("RGB", size, stored.tobytes()).save(buffer, quality=90, exif=exif.tobytes())
    else:
        Image.fromarray(stored).save(buffer, kind, quality=90, exif=exif)
    return buffer.getvalue()


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("kind", "brand"), [("AVIF", b"avif"), ("HEIC", b"heic"), ("HEIC", b"mif1")])
def test_a_picture_that_needs_something_is_told_with_what_it_needs_whatever_its_name(tmp_path, kind, brand):
    path = tmp_path / "photo.jpg"
    path.write_bytes(begun(brand))
    with pytest.raises(ImageError) as refused:
        read_picture(path)
    assert str(refused.value) == f"'{path}' is a picture in {INSTALL[kind].format(', which is')}; or convert it to JPEG"


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("suffix", "kind"), [(".heic", "HEIC"), (".HEIF", "HEIC"), (".hif", "HEIC"), (".avif", "AVIF")]
)
def test_a_folder_with_such_pictures_is_refused_with_what_they_need(tmp_path, suffix, kind):
    (tmp_path / f"a{suffix}").write_bytes(b"any")
    (tmp_path / "b.png").write_bytes(b"any")
    with pytest.raises(DataError) as refused:
        pictures_below(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} has pictures of kinds that are not read (1 {suffix.lower()}); convert them to JPEG or PNG, or "
        f"take them out; {INSTALL[kind].format(' is')}"
    )


@pytest.mark.usefixtures("bare")
def test_without_them_everything_else_is_read_as_before(tmp_path):
    Image.fromarray(SCENE).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png")), SCENE)
    assert pictures_below(tmp_path).names == ("a.png",)
    assert not {"AVIF", "HEIF"} & set(formats.picture_formats())


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", [pytest.param("AVIF", marks=AVIF), "HEIF"])
def test_a_picture_of_a_phone_is_read_upright_alone_and_in_a_folder(tmp_path, kind, orientation):
    name = {"AVIF": "photo.AVIF", "HEIF": "photo.heic"}[kind]
    (tmp_path / name).write_bytes(phone_picture(kind, orientation))
    found = np.asarray(read_picture(tmp_path / name)).astype(int)
    assert found.shape == SCENE.shape
    assert np.abs(found - SCENE).mean() < 8
    assert pictures_below(tmp_path).names == (name,)


@pytest.mark.parametrize("kind", [pytest.param("AVIF", marks=AVIF), "HEIF"])
def test_a_damaged_or_cut_picture_is_read_or_refused_and_nothing_else(tmp_path: Path, kind):
    whole, rng = np.frombuffer(phone_picture(kind), np.uint8), np.random.default_rng(0)
    path = tmp_path / "damaged.img"
    for turn in range(150):
        damaged = whole[: rng.integers(1, len(whole))] if turn % 3 == 0 else whole.copy()
        places = rng.integers(0, min(len(damaged), 300 if turn % 2 else len(damaged)), 3)
        damaged = damaged.copy()
        damaged[places] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        with suppress(ImageError):
            assert read_picture(path).mode == "RGB"
