"""Whether an exported file is the network that it was made of: its integers bit for bit, its logits on pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from limpq_hub.deploy.integer_layer import IntegerLayer
from limpq_hub.deploy.runtimes import Runtime
from limpq_hub.errors import OutputError

if TYPE_CHECKING:
    from limpq_hub.deploy.layer_parity import LayerParity
    from limpq_hub.deploy.read_back import ReadLayer

# Two logits of one network in two orders of float additions differ by less; what differs by more was rounded to
# another integer somewhere, which happens to the simulation itself in float64.
SAME_LOGITS = 1e-4
# Of larger logits than 52 it is this share of the largest of a picture: the last 4 of the 23 binary digits of float32.
_SAME_SHARE = 2.0**-19
FEWEST_SAME_ROWS, FEWEST_AGREEING = 0.9, 0.995
_ANOTHER_VERSION = "another version of the runtime may compute as the network does"


@dataclass(frozen=True)
class Parity:
    """How near the logits of a file are to those of the network that it was made of.

    Attributes:
        pictures: how many were compared.
        same_rows: share of the pictures whose logits all differ by less than 1e-4, or, where that is more, by less than
            2^-19 of the largest.
        agreement: share of the pictures in which both find the same class most likely.
        largest_difference: of any two logits.
    """

    pictures: int
    same_rows: float
    agreement: float
    largest_difference: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures as `verify.json` holds them."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.same_rows:.2%} of {self.pictures} pictures within {SAME_LOGITS:g}, agreement {self.agreement:.2%}, "
            f"largest difference {self.largest_difference:.2g}"
        )

    @property
    def is_exact(self) -> bool:
        """Whether nothing but a rounding tie here and there tells the two apart; of few pictures, on one of them."""
        shares = ((self.same_rows, FEWEST_SAME_ROWS), (self.agreement, FEWEST_AGREEING))
        return all(
            round((1 - share) * self.pictures) <= max(1, math.floor((1 - least) * self.pictures + 1e-6))
            for share, least in shares
        )

    def check(
        self, of_layers: Callable[[], LayerParity] | None = None, advice: str | None = None
    ) -> LayerParity | None:
        """Raise `OutputError` unless the file is as exact as float arithmetic lets it be.

        Of few pictures a single one may differ: a rounding tie can fall on any. Where ties are many, in large pictures
        or in noise, the layers are judged one by one instead.

        Args:
            of_layers: compares them, if that matters.
            advice: what may help where the file is not exact enough; another version of the runtime if None.

        Returns:
            What it found, if that mattered.
        """
        if self.is_exact:
            return None
        layers = None if of_layers is None else of_layers()
        if layers is not None and layers.is_exact:
            return layers
        by_layer = "" if layers is None else f"; layer by layer {layers}"
        raise OutputError(
            "the exported network is not the one that it was made of, and nothing was written; "
            f"{advice or _ANOTHER_VERSION}. Measured: {self}; at least {FEWEST_SAME_ROWS:.0%} of the pictures must be "
            f"within {SAME_LOGITS:g}, and {FEWEST_AGREEING:.1%} agree{by_layer}"
        )


def compare_logits(expected: Sequence[np.ndarray], images: Iterable[np.ndarray], runtime: Runtime) -> Parity:
    """Return how near a runtime comes to logits.

    Args:
        expected: of each batch, [batch, classes].
        images: batches of the same pictures, float32 [batch, channels, height, width].
    """
    return parity_of([runtime.run(batch) for batch in images], expected)


def parity_of(logits: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> Parity:
    """Return how near logits are to others of the same pictures, both [batch, classes] of each batch."""
    found, wanted = np.concatenate(list(logits)), np.concatenate(list(expected))
    differences, allowed = np.abs(found - wanted).max(1), np.maximum(SAME_LOGITS, _SAME_SHARE * np.abs(wanted).max(1))
    # Not a number is not the same.
    return Parity(
        pictures=len(wanted),
        same_rows=float((differences < allowed).mean()),
        agreement=float((found.argmax(1) == wanted.argmax(1)).mean()),
        largest_difference=float(differences.max()),
    )


def check_integers(
    written: Iterable[IntegerLayer], read: Mapping[str, ReadLayer], *, normalized_steps: bool = False
) -> int:
    """Check that a file holds exactly the integers, steps and ranges of a network.

    Args:
        written: the layers of the network.
        read: what the file holds of each.
        normalized_steps: whether the steps of the weights have taken in a normalization, and are others than ours.

    Returns:
        How many integers there are.

    Raises:
        OutputError: a layer is missing, or differs in a single bit.
    """
    layers = {layer.name: layer for layer in written}
    if layers.keys() != read.keys():
        missing = ", ".join(sorted(layers.keys() ^ read.keys()))
        raise OutputError(f"the exported file has other quantized layers than the network: {missing}")
    for name, layer in layers.items():
        kept = read[name]
        same = {
            "integers": kept.integers is None or np.array_equal(kept.integers, layer.integers),
            "weights": normalized_steps or np.array_equal(kept.weight, layer.weight()),
            "weight steps": kept.weight_step is None
            or normalized_steps
            or np.array_equal(kept.weight_step, layer.weight_step),
            "input step": np.array_equal(kept.input_step, layer.input_step),
        }
        for what, is_same in same.items():
            if not is_same:
                raise OutputError(f"the exported file has other {what} of {name} than the network")
        if kept.input_low < layer.input_low or kept.input_high > layer.input_high:
            raise OutputError(
                f"the exported file lets the input of {name} reach from {kept.input_low} to {kept.input_high}, its "
                f"{layer.bits.activation} bits from {layer.input_low} to {layer.input_high}"
            )
    return sum(layer.integers.size for layer in layers.values())
