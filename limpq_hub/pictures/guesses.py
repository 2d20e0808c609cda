"""The classes that a network finds most likely in a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn

from limpq_hub.pictures.preparation import preparation_of
from limpq_hub.zoo.limpq_model import LimpqModel
from limpq_hub.zoo.network import NetworkSpec


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


def top_classes(model: LimpqModel, picture: Image.Image, count: int = 5) -> list[Guess]:
    """Return the classes that a network from `load` finds most likely, most likely first.

    Args:
        model: a network from `load`.
        picture: RGB, of any size; it is scaled and cropped as the network was validated.
        count: how many classes, at most all of them.

    Raises:
        ImageError: the picture is too long and narrow to be scaled.
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

    Raises:
        ImageError: the picture is too long and narrow to be scaled.
    """
    image = preparation_of(spec)(picture)
    device = next(network.parameters(), torch.empty(0)).device
    best = network(image[None].to(device))[0].softmax(-1).topk(min(count, spec.num_classes))
    return [
        Guess(classes[index]["id"], classes[index]["name"], probability)
        for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
