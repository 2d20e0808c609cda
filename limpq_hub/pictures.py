"""Pictures from files, and the classes that a network finds most likely in them."""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from timm.data import create_transform
from torch import nn

from limpq_hub.errors import ImageError, InputFileError, quoted
from limpq_hub.plan.input_file import open_regular
from limpq_hub.zoo.limpq_model import LimpqModel
from limpq_hub.zoo.network import NetworkSpec

MOST_PIXELS = 50_000_000
# No PostScript: Pillow reads it by executing it.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


@dataclass(frozen=True)
class Guess:
    """A class and the probability that the network gives it.

    Attributes:
        id: of the class in its data set, such as "n02129165".
        name: in words.
        probability: 0..1.
    """

    id: str
    name: str
    probability: float


def read_picture(
    path: str | os.PathLike[str], *, name: str | None = None, most_pixels: int = MOST_PIXELS
) -> Image.Image:
    """Return the picture in a file as upright RGB; transparency shows white, of an animation the first frame.

    Args:
        path: a JPEG, PNG, WebP, GIF, BMP or TIFF file.
        name: what to call the file in an error; its path if None.
        most_pixels: a larger picture is refused from its header.

    Raises:
        ImageError: the file is missing, no picture, damaged, or of more than `most_pixels`.
    """
    name = quoted(os.fspath(path)) if name is None else name
    too_many = f"more than {most_pixels:,}; scale it down first"
    try:
        with warnings.catch_warnings():
            # Large pictures are refused below; odd metadata does not change what the picture shows.
            warnings.simplefilter("ignore")
            with open_regular(path) as file, Image.open(file, formats=_FORMATS) as picture:
                if picture.width * picture.height > most_pixels:
                    raise ImageError(f"{name} has {picture.width} x {picture.height} pixels, {too_many}")
                return _to_rgb(ImageOps.exif_transpose(picture))
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"there is no file {name}; give the path of a picture") from None
    except (UnidentifiedImageError, IsADirectoryError, InputFileError):
        raise ImageError(f"{name} is not a picture that can be read; give a JPEG, PNG, WebP or GIF file") from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+ pixels", str(error))
        raise ImageError(f"{name} has {pixels[0] if pixels else 'too many pixels'}, {too_many}") from None
    except (TypeError, AttributeError, ArithmeticError, LookupError):
        # Pillow trips over EXIF and TIFF fields of another type than they should have.
        raise ImageError(f"{name} is damaged: what it says of itself makes no sense; save it anew") from None
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ImageError(f"{name} is damaged and cannot be decoded: {str(error)[:80]}") from None


def top_classes(model: LimpqModel, picture: Image.Image, count: int = 5) -> list[Guess]:
    """Return the classes that a network from `load` finds most likely, most likely first.

    Args:
        model: a network from `load`.
        picture: RGB, of any size; it is scaled and cropped as the network was validated.
        count: how many classes, at most all of them.
    """
    return most_likely(model, picture, model.limpq.network, model.limpq.classes, count)


@torch.inference_mode()
def most_likely(
    network: nn.Module,
    picture: Image.Image,
    spec: NetworkSpec,
    classes: Sequence[Mapping[str, str]],
    count: int = 5,
) -> list[Guess]:
    """Return the classes that any network finds most likely, for example the float one of an entry.

    Args:
        network: from images, [batch, 3, height, width], to logits, [batch, classes].
        picture: RGB, of any size; it is scaled and cropped as `spec` says.
        spec: preprocessing of the network.
        classes: id and name of each class, in the order of the class indices.
        count: how many classes, at most all of them.
    """
    prepare = create_transform(
        spec.input_shape, crop_pct=spec.crop_pct, interpolation=spec.interpolation, mean=spec.mean, std=spec.std
    )
    device = next(network.parameters()).device
    best = network(prepare(picture)[None].to(device))[0].softmax(-1).topk(min(count, spec.num_classes))
    return [
        Guess(classes[index]["id"], classes[index]["name"], probability)
        for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        # Pillow clips 16-bit grey to 8 bits: scale it instead.
        grey = picture.convert("F")
        return grey.point(lambda value: value * (255 / 65535)).convert("L").convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")
