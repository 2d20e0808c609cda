"""What was learned or measured of each layer: step sizes and divergences, and which of these can be."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from limpq_hub.errors import ArtifactFormatError, quoted
from limpq_hub.plan.layer_bits import BIT_WIDTHS, LayerBits
from limpq_hub.plan.quantities import is_number

LARGEST_STEP = 1e38
# By layer, and by its bit-widths or its pairs of them.
Steps = Mapping[str, Mapping[int, float]]
Divergences = Mapping[str, Mapping[LayerBits, float]]


def check_same_layers(kind: str, steps: Steps, searched: list[str]) -> None:
    """Check that the searched layers, and no others, have steps of a kind.

    Raises:
        ArtifactFormatError: names the first one that does not.
    """
    known = set(searched)  # a list of thousands is slow to look names up in
    for name in steps:
        if name not in known:
            raise ArtifactFormatError(
                f"{kind} steps for layer {quoted(name)}, which is not a searched layer; remove it"
            )
    for name in searched:
        if name not in steps:
            raise ArtifactFormatError(
                f"layer {quoted(name)} has no {kind} steps; train them with accelerate launch -m "
                "limpq_hub.train.indicators"
            )


def check_divergences(
    divergences: Divergences, searched: list[str], weight_steps: Steps, activation_steps: Steps
) -> None:
    """Check that all pairs of the learned bits of the searched layers have a divergence.

    Raises:
        ArtifactFormatError: names the layers that differ, or the pair.
    """
    if set(divergences) != set(searched):
        different = ", ".join(sorted(map(str, set(divergences) ^ set(searched)))[:3])
        raise ArtifactFormatError(
            f"the divergences of pairs must be those of the searched layers, all of them; they differ in {different}"
        )
    for name, of_pairs in divergences.items():
        for bits, value in of_pairs.items():
            if not is_number(value) or not 0 <= value <= LARGEST_STEP:
                raise ArtifactFormatError(
                    f"layer {quoted(name)}: the divergence at {bits.text} bits must be a number of at least 0 and at "
                    f"most {LARGEST_STEP:g}, found {quoted(value)}"
                )
        for weight, activation in itertools.product(weight_steps[name], activation_steps[name]):
            if LayerBits(weight, activation) not in of_pairs:
                raise ArtifactFormatError(f"layer {quoted(name)}: no divergence at {weight}/{activation} bits")


def check_steps(kind: str, name: str, steps: Mapping[int, float]) -> None:
    """Check the steps of one layer, by bit-width.

    Raises:
        ArtifactFormatError: names the bit-width.
    """
    if not steps:
        raise ArtifactFormatError(f"{kind} steps of layer {quoted(name)}: none given, at least one bit-width is needed")
    for bits, step in steps.items():
        if type(bits) is not int or bits not in BIT_WIDTHS:
            raise ArtifactFormatError(
                f"{kind} steps of layer {quoted(name)}: a bit-width is a whole number from 2 to 8, found {quoted(bits)}"
            )
        if not is_number(step) or step <= 0:
            raise ArtifactFormatError(
                f"{kind} steps of layer {quoted(name)}: the step at {bits} bits must be a number above 0, found "
                f"{quoted(step)}"
            )
        if step > LARGEST_STEP:
            raise ArtifactFormatError(
                f"{kind} steps of layer {quoted(name)}: the step at {bits} bits is {quoted(step)}, more than any "
                f"float32 network can learn; use at most {LARGEST_STEP:.0e}"
            )
