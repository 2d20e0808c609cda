"""How bit-widths fit another tool's format: rounded up to those that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from limpq_hub.errors import PolicyError, quoted


def round_up(planned: Mapping[str, int], widths: Mapping[int, str], what: str) -> tuple[dict[str, str], list[str]]:
    """Return what the format calls the smallest of its widths that is enough, by layer, and a note per rounded width.

    Args:
        planned: bits of each layer.
        widths: what the format can hold: bits, and their name there.
        what: what has these bits, for the notes: "weights", "activations".

    Raises:
        PolicyError: no width is enough; names the layer.
    """
    written: dict[str, str] = {}
    rounded: dict[tuple[int, int], list[str]] = {}
    for layer, bits in planned.items():
        enough = [width for width in widths if width >= bits]
        if not enough:
            raise PolicyError(
                f"layer {quoted(layer)}: {what} of {bits} bits do not fit; this format holds at most {max(widths)}"
            )
        written[layer] = widths[min(enough)]
        if min(enough) != bits:
            rounded.setdefault((bits, min(enough)), []).append(layer)
    return written, [
        f"{what} of {bits} bits become {widths[width]}, {_count(layers)}: {', '.join(layers)}"
        for (bits, width), layers in sorted(rounded.items())
    ]


def _count(layers: Sequence[str]) -> str:
    return "in 1 layer" if len(layers) == 1 else f"in {len(layers)} layers"
