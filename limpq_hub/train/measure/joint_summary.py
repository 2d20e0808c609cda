"""How well the jointly trained weights serve the most, the middle and the fewest bits: whether the training worked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from limpq_hub.plan.policy import Policy
from limpq_hub.quant.frozen_layers import thaw_
from limpq_hub.train.data.picture_loader import PictureLoader
from limpq_hub.train.measure.evaluate import evaluate
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.loading import NotFineTunedWarning, load

Figures = dict[str, float | int]


def figures_at_uniform_bits(
    accelerator: Accelerator, folder: Path, validation: PictureLoader, reference: Sequence[Tensor]
) -> Iterator[tuple[int, Figures]]:
    """Yield bits and figures of an entry as it ships, with all searched layers at the most, middle and fewest bits.

    Args:
        folder: of the sealed entry.
        reference: of the float network, as `evaluate` takes it.
    """
    indicators = find_entry(f"local-dir:{folder}").indicators
    candidates = sorted(indicators.candidates)
    for bits in dict.fromkeys((candidates[-1], candidates[len(candidates) // 2], candidates[0])):
        policy = Policy.uniform(indicators.model, indicators.costs, bits, input_size=indicators.input_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotFineTunedWarning)
            network = thaw_(load(f"local-dir:{folder}", policy=policy, weights="joint", device=accelerator.device))
        yield bits, evaluate(accelerator, network, validation, reference)
