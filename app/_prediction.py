"""What one network makes of a picture, and how far two of them agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from _zoo import Accuracy


@dataclass(frozen=True)
class Prediction:
    """What one network makes of a picture, and what the network is.

    Attributes:
        title: what the page calls the network.
        classes: probability, 0..1, by what the page calls the class, most likely first.
        ids: of these classes, in the same order.
        size_bytes: of the weights, four bytes each for the float network.
        bitops: of one image, None for the float network.
        accuracy: top-1 of the network, None where it is not known.
        weights: "float" or "joint": two policies are compared with weights that were trained alike.
        agreement: for how many of many pictures in percent it finds the class that the float network finds; None where
            that was not measured.
    """

    title: str
    classes: Mapping[str, float]
    ids: tuple[str, ...]
    size_bytes: int
    bitops: int | None
    accuracy: Accuracy | None
    weights: str
    agreement: float | None

    def agrees(self, reference: Prediction) -> tuple[bool, int]:
        """Return whether the most likely classes agree, and how many of the first five both networks name."""
        return reference.ids[0] == self.ids[0], len(set(reference.ids) & set(self.ids))
