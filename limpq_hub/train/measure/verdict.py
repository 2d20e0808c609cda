"""What a training says of itself at its end that looks like a failure: no better than guessing, or nothing learned."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from limpq_hub.train.loop.journal import JOURNAL

# Of fewer steps a mean says little.
_FEWEST_STEPS = 20
_COMPARED_SHARE = 0.1
# So many standard errors above guessing a top-1 is no accident.
_CERTAIN = 3
_ADVICE = "start again in another --output with a smaller --lr or more --warmup-epochs, and look at metrics.jsonl"


def concerns(output: Path, figures: Mapping[str, Any], num_classes: int) -> Iterator[str]:
    """Yield what speaks against the result of a training, a line each; nothing where all looks well.

    Args:
        output: folder of the run.
        figures: of the trained network, as `evaluate` gives them.
        num_classes: outputs of the network.
    """
    top1, images = figures.get("top1"), figures["images"]
    chance = 1 / num_classes
    certain = chance + _CERTAIN * math.sqrt(chance * (1 - chance) / images)
    if top1 is not None and num_classes > 1 and top1 / 100 <= certain < 1:
        yield (
            f"warning: a top-1 of {top1:.2f} % of {num_classes} classes is no better than guessing "
            f"({100 * chance:.2f} %): {_ADVICE}"
        )
    losses = _losses(output / JOURNAL)
    count = int(_COMPARED_SHARE * len(losses))
    if len(losses) >= _FEWEST_STEPS:
        first, last = fmean(losses[:count]), fmean(losses[-count:])
        if last >= first:
            yield (
                f"warning: the loss did not fall: {first:.3f} on average in the first {count} steps, {last:.3f} in the "
                f"last {count}: {_ADVICE}"
            )


def _losses(journal: Path) -> list[float]:
    records = map(json.loads, journal.read_text().splitlines())
    return [record["loss"] for record in records if "loss" in record]
